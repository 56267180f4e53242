import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.actions.poses import KINDS, UNITS, agree, values

from videopolicy.actions.convert import convert, obstacle
from videopolicy.actions.layout import Layout
from videopolicy.errors import UserError

ENDS = st.sampled_from([(-1, 1), (1, -1), (0, 1), (1, 0), (0.08, 0)])


@st.composite
def two_spellings(draw):
    """The same arm twice, in other rotations and with other ends of the gripper."""
    reference = draw(st.sampled_from(["", "delta_", "relative_"]))
    layouts = []
    turns = KINDS.filter(lambda kind: reference != "delta_" or kind != "axis_angle")
    for _ in range(2):
        opened, closed = draw(ENDS)
        words = f"{reference}position {reference}{draw(turns)} gripper[{opened},{closed}] force:1 joints:2"
        layouts.append(Layout.parse(words))
    return tuple(layouts)


@given(st.data(), two_spellings())
def test_there_and_back_means_the_same(data, layouts):
    source, target = layouts
    given_values = data.draw(values(source, 3))
    there = convert(given_values, source, target)
    assert there.shape == (3, target.width)
    assert agree(source, convert(there, target, source), given_values)


@given(st.data(), two_spellings(), KINDS.filter(lambda kind: kind != "axis_angle"))
def test_a_detour_changes_nothing(data, layouts, kind):
    source, target = layouts
    between = Layout.parse(
        " ".join(f"{part.reference}_{kind}".lstrip("_") if i == 1 else str(part) for i, part in enumerate(source.parts))
    )
    given_values = data.draw(values(source, 2))
    detour = convert(convert(given_values, source, between), between, target)
    assert agree(target, detour, convert(given_values, source, target))


@given(ENDS, ENDS, UNITS)
def test_open_stays_open_closed_stays_closed_and_half_stays_half(ends, others, share):
    source, target = (Layout.parse(f"gripper[{opened},{closed}]") for opened, closed in (ends, others))
    opened, half, closed = convert(np.array([[ends[0]], [sum(ends) / 2], [ends[1]]], float), source, target)
    np.testing.assert_allclose([opened[0], half[0], closed[0]], [others[0], sum(others) / 2, others[1]], atol=1e-12)


def test_polarity_is_never_guessed():
    source, target = Layout.parse("position gripper:1"), Layout.parse("position gripper[-1,1]")
    with pytest.raises(UserError, match="gripper:1 does not say which value is open"):
        convert(np.zeros((2, 4)), source, target)
    assert "gripper:1 does not say" in obstacle(target, source)


def test_what_is_the_same_stays_to_the_bit():
    layout = Layout.parse("position quaternion gripper[-1,1] joints:7")
    given_values = np.random.default_rng(0).normal(size=(4, 5, layout.width)).astype(np.float32)
    assert convert(given_values, layout, layout).tobytes() == given_values.tobytes()
    other = Layout.parse("position axis_angle gripper[-1,1] joints:7")
    there = convert(given_values, layout, other)
    assert there.dtype == np.float32 and there.shape == (4, 5, other.width)
    np.testing.assert_array_equal(there[..., :3], given_values[..., :3])
    np.testing.assert_array_equal(there[..., 6:], given_values[..., 7:])


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("position", "delta_position", "where the robot was"),
        ("delta_axis_angle", "quaternion", "where the robot was"),
        ("delta_axis_angle", "delta_quaternion", "count steps of an axis-angle in their own"),
        ("delta_rotation_6d", "delta_axis_angle", "count steps of an axis-angle in their own"),
        ("joints:7", "position quaternion", "1 part, the other 2 parts"),
        ("joints:7", "position", "different things"),
        ("joints:7", "joints:6", "differ in width"),
        ("position gripper[0,1]", "position", "nothing is dropped"),
        ("gripper:2", "gripper:1", "differ in width"),
        ("position", "quaternion", "different things"),
        ("gripper[0,1]", "force:1", "different things"),
    ],
)
def test_what_cannot_be_known_is_refused_with_the_reason(source, target, reason):
    source, target = Layout.parse(source), Layout.parse(target)
    assert reason in obstacle(source, target)
    with pytest.raises(UserError, match=reason):
        convert(np.zeros((1, source.width)), source, target)


def test_values_of_another_width_are_refused():
    with pytest.raises(UserError, match=r"\(2, 4\).*3 wide"):
        convert(np.zeros((2, 4)), Layout.parse("position"), Layout.parse("position"))
