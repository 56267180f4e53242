import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.actions.poses import ANGLES, AXES, KINDS, TURNS, UNITS, apart, batches

from videopolicy.actions.rotations import matrices, rewritten, written
from videopolicy.errors import UserError


@given(batches(TURNS), KINDS, KINDS)
def test_a_rotation_survives_every_way_there_and_back(turns, first, second):
    values = rewritten(turns, "axis_angle", first)
    assert apart(rewritten(rewritten(values, first, second), second, first), values, first) < 1e-7


@given(batches(TURNS), KINDS)
def test_matrices_are_rotations(turns, kind):
    turned = matrices(rewritten(turns, "axis_angle", kind), kind)
    assert np.allclose(turned @ turned.swapaxes(-1, -2), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(turned), 1)


@given(AXES, ANGLES)
def test_a_quaternion_is_half_the_angle_about_the_axis(axis, angle):
    axis = axis / np.linalg.norm(axis)
    # Rodrigues' formula, and the textbook's quaternion, real part last.
    expected = np.append(axis * np.sin(angle / 2), np.cos(angle / 2))
    found = rewritten(axis * angle, "axis_angle", "quaternion")
    assert min(abs(found - expected).max(), abs(found + expected).max()) < 1e-7
    assert found[3] >= 0


def test_the_6d_form_holds_the_first_two_columns():
    quarter = rewritten(np.array([0, 0, np.pi / 2]), "axis_angle", "rotation_6d")
    assert np.allclose(quarter, [0, 1, 0, -1, 0, 0])


@given(TURNS, st.floats(0.1, 9), st.floats(0.1, 9), UNITS)
def test_what_gram_schmidt_removes_does_not_matter(turn, scale, other, lean):
    six = rewritten(turn, "axis_angle", "rotation_6d")
    sloppy = np.concatenate((six[:3] * scale, six[3:] * other + lean * six[:3]))
    assert apart(sloppy, six, "rotation_6d") < 1e-6


@given(TURNS, st.floats(1e-3, 1e3), st.booleans())
def test_neither_length_nor_sign_of_a_quaternion_matters(turn, scale, flipped):
    quaternion = rewritten(turn, "axis_angle", "quaternion")
    assert apart(quaternion * (-scale if flipped else scale), quaternion, "quaternion") < 1e-6


@given(TURNS)
def test_axis_angle_beyond_half_a_turn_comes_back_shorter(turn):
    length = np.linalg.norm(turn)
    longer = turn * (1 + 2 * np.pi / length) if length > 1e-3 else turn
    found = rewritten(rewritten(longer, "axis_angle", "quaternion"), "quaternion", "axis_angle")
    assert apart(found, longer, "axis_angle") < 1e-6
    assert np.linalg.norm(found) <= np.pi + 1e-9


def test_composing_matrices_composes_rotations():
    first, second = Rotation.from_rotvec([0.3, 0, 0]), Rotation.from_rotvec([0, -0.8, 0.1])
    product = matrices(first.as_quat(), "quaternion") @ matrices(second.as_rotvec(), "axis_angle")
    assert np.allclose(written(product, "quaternion"), (first * second).as_quat(canonical=True))


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
def test_any_shape_of_batch(shape):
    turns = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    assert rewritten(turns, "axis_angle", "rotation_6d").shape == (*shape, 6)


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ([0.0, 0, 0, 0], "quaternion", "no direction"),
        ([1.0, 0, 0, 2, 0, 0], "rotation_6d", "no direction"),
        ([0.0, 0, 0, 0, 1, 0], "rotation_6d", "no direction"),
        ([1.0, 0, 0], "quaternion", "4 dimensions"),
        ([np.nan, 0, 0], "axis_angle", "finite"),
        ([1.0, 0, 0], "euler", "no representation of rotations 'euler'"),
    ],
)
def test_what_is_no_rotation_is_refused(values, kind, reason):
    with pytest.raises(UserError, match=reason):
        matrices(np.array(values), kind)


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match="euler"):
        written(np.eye(3), "euler")
