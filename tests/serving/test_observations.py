import numpy as np
import pytest

from videopolicy.errors import UserError
from videopolicy.policies.base import PolicySpec
from videopolicy.serving.observations import Reader, style

IMAGE = np.arange(12 * 16 * 3, dtype=np.uint32).reshape(12, 16, 3).astype(np.uint8)


def spec(*views):
    return PolicySpec(views=views, size=8, action_width=2, chunk=4, execute=2)


def reader(name, views, width=None):
    return Reader(style(name, spec(*views)), width)


def test_the_native_style_has_the_names_of_the_policy():
    read = reader("native", ("top", "close"), 2).read(
        {"top": IMAGE, "close": IMAGE[::-1], "state": np.array([1.0, 2.0]), "instruction": "push", "more": None}
    )
    assert list(read.images) == ["top", "close"] and read.instruction == "push"
    np.testing.assert_array_equal(read.images["close"], IMAGE[::-1])
    assert read.state.dtype == np.float32 and read.state.tolist() == [1, 2]


def test_liberos_keys():
    read = reader("libero", ("eye_in_hand", "agentview"), 8).read(
        {
            "observation/image": IMAGE,
            "observation/wrist_image": IMAGE[:, ::-1],
            "observation/state": np.arange(8.0),
            "prompt": "put it there",
        }
    )
    np.testing.assert_array_equal(read.images["agentview"], IMAGE)
    np.testing.assert_array_equal(read.images["eye_in_hand"], IMAGE[:, ::-1])
    assert read.instruction == "put it there" and read.state.tolist() == list(range(8))


def test_droids_state_is_of_two_keys():
    message = {
        "observation/exterior_image_1_left": IMAGE,
        "observation/wrist_image_left": IMAGE,
        "observation/joint_position": np.arange(7.0),
        "observation/gripper_position": np.float64(9),
        "prompt": "fold",
    }
    assert reader("droid", ("front", "wrist"), 8).read(message).state.tolist() == [*range(7), 9]


def test_alohas_images_are_maps_within_maps_channels_first():
    views = ("cam_high", "cam_right_wrist", "cam_left_wrist")
    images = {view: np.roll(IMAGE, place, 0).transpose(2, 0, 1) for place, view in enumerate(views)}
    read = reader("aloha", views, 14).read({"images": images, "state": [0.5] * 14, "prompt": "pour"})
    for place, view in enumerate(views):
        np.testing.assert_array_equal(read.images[view], np.roll(IMAGE, place, 0))
    assert style("aloha", spec("left_wrist", "right_wrist")).views == {
        "left_wrist": "images/cam_left_wrist",
        "right_wrist": "images/cam_right_wrist",
    }


def test_a_style_of_ones_own(tmp_path):
    file = tmp_path / "arm.toml"
    text = 'text = "fold"\nstate = ["a/b"]\n[views]\ntop = "cameras/top"\n[turns]\ntop = {rotate = 180}\n'
    file.write_text(text, encoding="utf-8")
    read = reader(str(file), ("top",), 1).read({"cameras": {"top": IMAGE}, "a": {"b": [3]}})
    np.testing.assert_array_equal(read.images["top"], IMAGE[::-1, ::-1])
    assert read.instruction == "fold" and read.state.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[views]\ntip = "a"', "no view of the policy 'tip'; did you mean 'top'"),
        ("[views]", "no key for top"),
        ('view = "a"', "did you mean 'views'"),
        ("[views]\ntop = 3", "views.top is 3; it takes a text"),
        ('[views]\ntop = "a"\n[turns]\ntop = {rotate = 45}', "turns.top.rotate"),
    ],
)
def test_a_wrong_style_is_refused_by_name(text, says, tmp_path):
    file = tmp_path / "arm.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        style(str(file), spec("top"))


def test_a_robot_without_the_camera_is_refused():
    with pytest.raises(UserError, match="no style 'liberto'; did you mean 'libero'"):
        style("liberto", spec("top"))
    with pytest.raises(UserError, match=r"libero cannot tell which of the views a, b .* \.toml"):
        style("libero", spec("a", "b"))
    with pytest.raises(UserError, match="add `state`"):
        Reader(style("native", spec()).__class__({}), 3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"top": None}, "'top' is of type NoneType; give an RGB image"),
        ({"top": IMAGE.astype(np.float32)}, r"'top' is \(12, 16, 3\) float32; give an RGB image"),
        ({"top": IMAGE[None]}, r"'top' is \(1, 12, 16, 3\) uint8"),
        ({"top": IMAGE[:0]}, r"'top' is \(0, 16, 3\)"),
        ({"top": IMAGE[..., :2]}, r"'top' is \(12, 16, 2\)"),
        ({"top": np.zeros((9000, 1, 3), np.uint8)}, "at most 8192"),
        ({"state": np.arange(3.0)}, "state: 3 numbers; the policy's state 'joints:2' has 2"),
        ({"state": np.array([0, np.nan])}, r"'state'\[1\] is not a finite number"),
        ({"state": np.array([0, 1e300])}, r"'state'\[1\] is not a finite number"),
        ({"state": np.zeros((1, 2))}, r"'state' is \(1, 2\) float64; give a row"),
        ({"state": np.array([True, False])}, "'state' is .* bool"),
        ({"state": [2**70, 1]}, "'state' is of type list"),
        ({"state": [[1], 1]}, "'state' is of type list"),
        ({"state": "ab"}, "'state' is of type str"),
        ({"instruction": b"push"}, "'instruction' is of type bytes; give a text"),
        ({"instruction": "x" * 5000}, "has 5000 letters"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(wrong, says):
    right = {"top": IMAGE, "state": np.zeros(2), "instruction": "push"}
    read = Reader(style("native", spec("top")), 2, "joints:2")
    assert read.read(right).instruction == "push"
    with pytest.raises(UserError, match=says) as error:
        read.read(right | wrong)
    assert "\n" not in str(error.value)
    for key in right:
        with pytest.raises(UserError, match=f"'{key}' is missing; the observation has "):
            read.read({name: value for name, value in right.items() if name != key})
