import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actions.poses import KINDS, TURNS, agree, values

from videopolicy.actions.layout import POSITION, ROTATIONS, Layout
from videopolicy.actions.relative import Relative
from videopolicy.actions.rotations import matrices, rewritten, written
from videopolicy.errors import UserError

STEPS = 4


@st.composite
def two_arms(draw):
    """Chunks of one or two arms, (2, STEPS, D), and the states that they begin in, (2, S)."""
    arms = draw(st.integers(1, 2))
    one, other = draw(KINDS), draw(KINDS)
    how = Relative(
        Layout.parse(" ".join([f"position {one} gripper[-1,1]"] * arms + ["force:1"])),
        Layout.parse(" ".join(["joints:2", *[f"{other} position"] * arms])),
    )
    actions = draw(values(how.layout, 2 * STEPS)).reshape(2, STEPS, -1)
    return how, actions, draw(values(how.state_layout, 2))


def moved(layout, given_values, turn, shift):
    """The same poses after the whole room was turned and shifted."""
    result = given_values.copy()
    for part in layout.parts:
        there = given_values[..., part.slice]
        if part.kind == POSITION:
            result[..., part.slice] = there @ turn.T + shift
        elif part.kind in ROTATIONS:
            result[..., part.slice] = written(turn @ matrices(there, part.kind), part.kind)
    return result


@settings(max_examples=40)
@given(two_arms())
def test_inverting_gives_back_what_was_meant(drawn):
    how, actions, states = drawn
    relative = how.apply(actions, states)
    assert relative.shape == (2, STEPS, how.relative.width)
    assert agree(how.layout, how.invert(relative, states), actions, tolerance=5e-6)


@settings(max_examples=40)
@given(two_arms(), TURNS, st.tuples(*[st.floats(-5, 5)] * 3))
@pytest.mark.slow
def test_where_the_base_stands_does_not_matter(drawn, turn, shift):
    how, actions, states = drawn
    turn = matrices(turn, "axis_angle")
    elsewhere = how.apply(moved(how.layout, actions, turn, shift), moved(how.state_layout, states, turn, shift))
    np.testing.assert_allclose(elsewhere, how.apply(actions, states), rtol=0, atol=2e-6)


@settings(max_examples=40)
@given(two_arms())
def test_what_is_no_pose_stays_to_the_bit(drawn):
    how, actions, states = drawn
    relative = how.apply(actions, states)
    for one, other in zip(how.layout.parts, how.relative.parts, strict=True):
        if one.kind in ("gripper", "force"):
            np.testing.assert_array_equal(relative[..., other.slice], actions[..., one.slice])


ARM = Relative(Layout.parse("position axis_angle gripper[-1,1]"), Layout.parse("position quaternion"))


def test_to_stay_where_one_is_is_no_motion():
    state = np.array([0.3, -0.2, 0.9, *rewritten(np.array([0.1, 2.0, -0.4]), "axis_angle", "quaternion")])
    stay = np.array([[0.3, -0.2, 0.9, 0.1, 2.0, -0.4, 1.0]])
    np.testing.assert_allclose(ARM.apply(stay, state), [[0, 0, 0, 1, 0, 0, 0, 1, 0, 1.0]], atol=1e-12)


def test_forward_means_along_the_gripper():
    # The gripper looks along the room's y (a quarter turn about z), and is to move there by 0.1.
    state = np.array([1.0, 1, 0, *rewritten(np.array([0, 0, np.pi / 2]), "axis_angle", "quaternion")])
    ahead = np.array([[1.0, 1.1, 0, 0, 0, np.pi / 2, 0]])
    np.testing.assert_allclose(ARM.apply(ahead, state)[0, :3], [0.1, 0, 0], atol=1e-12)


def test_a_network_may_be_a_little_off_a_rotation():
    rng = np.random.default_rng(0)
    state = np.array([0, 0, 0, 0, 0, 0, 1.0])
    sloppy = rng.normal(size=(5, ARM.relative.width)).astype(np.float32)
    absolute = ARM.invert(sloppy, state)
    assert absolute.dtype == np.float32 and absolute.shape == (5, 7)
    assert agree(ARM.layout, ARM.invert(ARM.apply(absolute, state), state), absolute, tolerance=1e-5)


def test_the_relative_layout_is_named():
    assert str(ARM.relative) == "relative_position relative_rotation_6d gripper[-1,1]"


@pytest.mark.parametrize(
    ("layout", "state", "message"),
    [
        ("delta_position delta_axis_angle", "position quaternion", "the action is 'delta_position"),
        ("position gripper[0,1]", "position quaternion", "the action is 'position gripper"),
        ("joints:7", "position quaternion", "the action is 'joints:7'"),
        ("position quaternion", "joints:7", "the state is 'joints:7'"),
        ("position quaternion position quaternion", "position quaternion", "has 2, the state 'position quaternion' 1"),
    ],
)
def test_without_absolute_poses_nothing_is_relative(layout, state, message):
    with pytest.raises(UserError, match=message):
        Relative(Layout.parse(layout), Layout.parse(state))


@pytest.mark.parametrize(
    ("actions", "states", "message"),
    [
        (np.zeros((2, 8)), np.ones(7), r"actions of shape \(2, 8\).*7 wide"),
        (np.zeros((2, 7)), np.ones(3), r"states of shape \(3,\).*7 wide"),
        (np.zeros((2, 7)), np.zeros(7), "no direction"),
    ],
)
def test_chunks_and_states_that_do_not_fit_are_refused(actions, states, message):
    with pytest.raises(UserError, match=message):
        ARM.apply(actions, states)


@pytest.mark.parametrize("seed", range(5))
def test_what_does_not_move_has_no_last_digits_that_a_normaliser_would_stretch(seed):
    rng = np.random.default_rng(seed)
    turns, places = rng.normal(size=(50, 3)), rng.uniform(-1, 1, (50, 3))
    states = np.concatenate((places, rewritten(turns, "axis_angle", "quaternion")), 1).astype(np.float32)
    stay = np.concatenate((places, turns, np.zeros((50, 1))), 1).astype(np.float32)[:, None]
    assert np.ptp(ARM.apply(stay, states), axis=0).max() == 0
