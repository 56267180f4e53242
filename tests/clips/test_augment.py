import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.clips.augment import ColorJitter, Jitter


@pytest.fixture
def frames(rng):
    return rng.integers(0, 256, (4, 6, 5, 3), np.uint8)


def test_no_change_changes_nothing(frames):
    np.testing.assert_array_equal(Jitter().apply(frames), frames)


def test_a_draw_is_the_same_for_every_frame_of_a_view(frames):
    jitter = ColorJitter().draw(np.random.default_rng(1))
    alone = [jitter.apply(frame[None])[0] for frame in frames]
    assert (jitter.apply(frames) != frames).any()
    np.testing.assert_array_equal(jitter.apply(frames), alone)


@given(st.integers(0, 1000))
def test_draws_stay_in_their_range_and_follow_the_seed(seed):
    jitter = ColorJitter(0.2, 0.3, 0.4, 0.05).draw(np.random.default_rng(seed))
    assert abs(jitter.brightness - 1) <= 0.2
    assert abs(jitter.contrast - 1) <= 0.3
    assert abs(jitter.saturation - 1) <= 0.4
    assert abs(jitter.hue) <= 0.05
    assert jitter == ColorJitter(0.2, 0.3, 0.4, 0.05).draw(np.random.default_rng(seed))
    assert jitter != ColorJitter(0.2, 0.3, 0.4, 0.05).draw(np.random.default_rng(seed + 1))


@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(-0.5, 0.5))
def test_hue_turns_as_in_hsv(colour, turn):
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    expected = np.array(colorsys.hsv_to_rgb((h + turn) % 1, s, v)) * 255
    turned = Jitter(hue=turn).apply(np.array(colour, np.uint8).reshape(1, 1, 1, 3))
    np.testing.assert_allclose(turned.ravel(), expected, atol=0.51)


def test_red_turns_to_green_to_blue():
    red, green, blue = (np.uint8(255) * np.eye(3, dtype=np.uint8))[:, None, None, None]
    np.testing.assert_array_equal(Jitter(hue=1 / 3).apply(red), green)
    np.testing.assert_array_equal(Jitter(hue=-1 / 3).apply(red), blue)


def test_brightness_scales_and_clips():
    grey = np.array([[[[100, 100, 100]]], [[[250, 250, 250]]]], np.uint8)
    brighter = Jitter(brightness=1.2).apply(grey)
    np.testing.assert_array_equal(brighter.ravel(), [120] * 3 + [255] * 3)


def test_contrast_pulls_towards_the_mean_of_the_frame(frames):
    grey = np.repeat(frames[..., :1] // 2 + 64, 3, -1)
    softer = Jitter(contrast=0.5).apply(grey).astype(float)
    mean = grey.astype(float).mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(softer - mean, (grey - mean) / 2, atol=0.51)


def test_without_saturation_only_the_luma_is_left(frames):
    grey = Jitter(saturation=0.0).apply(frames)
    np.testing.assert_allclose(grey[..., 0], frames @ [0.299, 0.587, 0.114], atol=0.51)
    assert (grey == grey[..., :1]).all()


def test_grey_has_no_hue_and_no_saturation_to_change(frames):
    grey = np.repeat(frames[..., :1], 3, -1)
    changed = Jitter(saturation=1.2, hue=0.3).apply(grey)
    np.testing.assert_allclose(changed.astype(int), grey, atol=1)
