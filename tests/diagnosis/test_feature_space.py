import numpy as np
import pytest

from videopolicy.diagnosis.feature_space import SIDE, FeatureSpace


@pytest.mark.parametrize(("shape", "size"), [((20, 28), 20), ((70, 65), SIDE), ((3, 9), 4), ((30, 22), 20)])
def test_frames_become_squares_of_whole_patches(shape, size):
    frames = np.random.default_rng(0).integers(0, 256, (30, *shape, 3), np.uint8)
    space = FeatureSpace.fit(("top",), [{"top": frames}])
    assert space.size == size
    assert space.encode({"top": frames}).shape == (30, 8, size // 4, size // 4)


def test_a_wide_camera_and_the_square_that_a_policy_sees_of_it_have_the_same_codes():
    frames = np.random.default_rng(0).integers(0, 256, (30, 32, 48, 3), np.uint8)
    space = FeatureSpace.fit(("top",), [{"top": frames}])
    wide, square = space.encode({"top": frames}), space.encode({"top": frames[:, :, 8:40]})
    assert (wide == square).all() and wide.std() > 0
