import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videopolicy.images import fit_to_size


@settings(max_examples=30)
@given(st.integers(8, 70), st.integers(8, 70), st.integers(8, 70))
def test_frames_become_squares_of_even_colour_where_they_were(height, width, size):
    frames = np.full((2, height, width, 3), (10, 120, 250), np.uint8)
    assert fit_to_size(frames, size).tolist() == np.full((2, size, size, 3), (10, 120, 250)).tolist()


@pytest.mark.parametrize("shape", [(32, 48), (48, 32), (32, 32)])
def test_each_pixel_is_the_mean_of_what_it_covers_of_the_middle(shape):
    frames = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), np.uint8)
    top, left = ((side - 32) // 2 for side in shape)
    middle = frames[:, top : top + 32, left : left + 32]
    means = middle.reshape(3, 8, 4, 8, 4, 3).mean((2, 4))
    assert np.abs(fit_to_size(frames, 8) - means).max() <= 1


def test_squares_of_that_size_stay_to_the_bit():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    assert fit_to_size(frames, 16) is frames
    assert fit_to_size(frames, 24).shape == (3, 24, 24, 3)
