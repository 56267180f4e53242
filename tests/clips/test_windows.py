import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.clips.windows import Window
from videopolicy.errors import UserError

SMALL = st.integers(1, 12)
WINDOWS = st.builds(Window, SMALL, SMALL, SMALL)


@st.composite
def places(draw):
    length = draw(st.integers(1, 60))
    return draw(st.integers(0, length - 1)), length


@given(WINDOWS, places())
def test_a_window_starts_at_its_step_and_never_leaves_its_episode(window, place):
    start, length = place
    for indices, count in (
        (window.frame_indices(start, length), 1 + window.frames),
        (window.action_indices(start, length), window.actions),
    ):
        assert indices.shape == (count,)
        assert indices[0] == start
        assert indices.max() < length
        assert (np.diff(indices) >= 0).all()


@given(WINDOWS, places())
def test_inside_the_episode_the_steps_are_evenly_spaced(window, place):
    start, length = place
    frames = window.frame_indices(start, length + start + window.span)
    actions = window.action_indices(start, length + start + window.span)
    assert tuple(frames[1:] - start) == window.offsets
    assert (np.diff(frames) == window.stride).all()
    assert (np.diff(actions) == 1).all()


def test_a_window_reaches_as_far_as_asked_with_the_same_actions():
    window = Window(frames=8, stride=4, actions=32)
    assert window.reaching(32) == window
    assert window.reaching(16).offsets == (4, 8, 12, 16)
    assert window.reaching(0).offsets == (0,)
    assert {window.reaching(horizon).actions for horizon in (0, 16, 64)} == {32}
    with pytest.raises(UserError, match="4 control steps apart cannot reach 14 ahead; 12 or 16 would do"):
        window.reaching(14)


@pytest.mark.parametrize(("frames", "temporal", "latents"), [(8, 1, 8), (8, 4, 2), (4, 4, 1)])
def test_future_frames_become_latents_in_groups(frames, temporal, latents):
    assert Window(frames, stride=4, actions=32).latent_frames(temporal) == latents


@pytest.mark.parametrize(("frames", "would_do"), [(9, "8 or 12"), (3, "4")])
def test_frames_that_do_not_divide_into_latents_are_refused(frames, would_do):
    with pytest.raises(UserError, match=f"{frames} future frames .* latents of 4 frames; {would_do} would do"):
        Window(frames, stride=4, actions=32).latent_frames(4)


def test_the_first_frame_may_be_the_current_one_or_any_later_one():
    assert Window(frames=3, stride=4, actions=1).offsets == (4, 8, 12)
    assert Window(frames=3, stride=4, actions=1, first=0).offsets == (0, 4, 8)
    window = Window(frames=3, stride=4, actions=1, first=1)
    assert window.span == 10 and window.frame_indices(5, 99).tolist() == [5, 6, 10, 14]
    with pytest.raises(UserError, match="first is -1"):
        Window(frames=3, stride=4, actions=1, first=-1)


@given(WINDOWS, st.lists(places(), min_size=1, max_size=5))
def test_many_starts_at_once_are_the_same_as_one_by_one(window, many):
    starts, lengths = map(np.array, zip(*many, strict=True))
    for indices in (window.frame_indices, window.action_indices):
        alone = [indices(start, length) for start, length in many]
        np.testing.assert_array_equal(indices(starts, lengths), alone)


@given(WINDOWS)
def test_the_span_is_the_shortest_episode_that_nothing_is_clipped_in(window):
    def distinct(length):
        frames, actions = window.frame_indices(0, length), window.action_indices(0, length)
        return len(set(frames)) == len(frames) and len(set(actions)) == len(actions)

    assert window.frame_indices(0, window.span)[-1] == window.offsets[-1]
    assert distinct(window.span)
    shorter = window.span - 1
    assert shorter < window.actions or window.frame_indices(0, shorter)[-1] < window.offsets[-1]


def test_a_start_outside_the_episode_is_refused():
    for start in (-1, 5, np.array([0, 5])):
        with pytest.raises(IndexError, match="outside its episode"):
            Window(2, 2, 2).frame_indices(start, 5)


def test_a_window_of_nothing_is_refused():
    with pytest.raises(UserError, match="stride of at least 1, not 0"):
        Window(4, 0, 32)


def test_the_check_names_the_first_episode_that_is_too_short():
    window = Window(frames=4, stride=8, actions=32)
    window.check([33, 40])
    with pytest.raises(UserError, match=r"episode 1 has 32 control steps, but a window spans 33"):
        window.check([33, 32, 5])
