import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.actions.layout import Layout
from videopolicy.errors import UserError

ENDS = st.floats(allow_nan=False, allow_infinity=False, width=32)
GRIPPERS = (
    st.tuples(ENDS, ENDS).filter(lambda ends: ends[0] != ends[1]).map(lambda ends: f"gripper[{ends[0]},{ends[1]}]")
)
POSES = st.sampled_from(["position", "axis_angle", "quaternion", "rotation_6d", "joints:7"])
MOVING = st.tuples(st.sampled_from(["", "delta_", "relative_"]), POSES).map("".join)
COUNTED = st.tuples(st.sampled_from(["gripper", "force", "other"]), st.integers(1, 99)).map(
    lambda pair: f"{pair[0]}:{pair[1]}"
)
TEXTS = st.lists(st.one_of(MOVING, GRIPPERS, COUNTED), min_size=1, max_size=6).map(" ".join)


@given(TEXTS)
def test_a_layout_prints_what_it_was_parsed_from(text):
    layout = Layout.parse(text)
    assert Layout.parse(str(layout)) == layout
    assert str(Layout.parse(str(layout))) == str(layout)
    assert len({layout, Layout.parse(text)}) == 1


@given(TEXTS)
def test_the_parts_cover_every_dimension_once_and_in_order(text):
    layout = Layout.parse(text)
    covered = [dimension for part in layout.parts for dimension in range(layout.width)[part.slice]]
    assert covered == list(range(layout.width))


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("position axis_angle gripper[-1,1]", 7),
        ("delta_position delta_quaternion gripper:2", 9),
        ("relative_position relative_rotation_6d gripper[0.08,0] force:1", 11),
        ("joints:7 gripper[1,0]", 8),
        ("delta_joints:6 other:5", 11),
    ],
)
def test_canonical_texts_come_back_as_they_are(text, width):
    assert str(Layout.parse(text)) == text
    assert Layout.parse(text).width == width


def test_a_gripper_knows_its_open_end():
    assert Layout.parse("position gripper[1,0]").parts[1].ends == (1.0, 0.0)
    assert Layout.parse("gripper:1").parts[0].ends is None


def test_the_way_of_writing_does_not_matter():
    assert str(Layout.parse("  position   gripper[-1.0,-0.0] joints:07 ")) == "position gripper[-1,0] joints:7"


@pytest.mark.parametrize(
    "word",
    [
        "posture",
        "delta_gripper:1",
        "relative_force:1",
        "joints",
        "gripper",
        "position:3",
        "gripper[0,0]",
        "other:0",
        "gripper[nan,1]",
        "gripper[0,inf]",
        "gripper[a,b]",
        "gripper[1]",
        "position[0,1]",
        "joints:9999",
        "Position",
    ],
)
def test_a_word_that_makes_no_sense_is_shown_with_what_would(word):
    with pytest.raises(UserError, match=r"known|gripper|joints|from 1 to|write|no number") as caught:
        Layout.parse(f"position {word}")
    assert repr(word) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(st.sampled_from("position gripper[-1,]:x_delta 07nai\n"), max_size=30))
def test_any_text_is_a_layout_or_refused_in_one_line(text):
    try:
        assert str(Layout.parse(str(Layout.parse(text)))) == str(Layout.parse(text))
    except UserError as error:
        assert "\n" not in str(error)


def test_no_word_at_all_is_refused():
    with pytest.raises(UserError, match="at least one word"):
        Layout.parse("  ")
