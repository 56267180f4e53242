"""Isaac Lab's files: any picture is a view, and columns are joined as a person says."""

import h5py
import numpy as np
import pytest
from tests.datasets.hdf5 import numbered, vectors, write_isaac

from videopolicy.datasets.formats import open_any
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError

STEPS = 8


@pytest.fixture
def file(tmp_path):
    return write_isaac(tmp_path / "demo.hdf5")


def edit(file, change):
    with h5py.File(file, "r+") as root:
        for number in range(3):
            change(root[f"data/demo_{number}"], number)


def unused(dataset):
    return [note.text for note in dataset.notes if note.kind == "unused"]


def test_any_picture_is_a_view_and_states_are_named_with_their_widths(file):
    dataset = open_any(file)
    assert (dataset.views, dataset.action_width, dataset.state_width) == (("table_cam", "wrist_cam"), 7, None)
    for number in range(3):
        episode = dataset.episode(number)
        for place, view in enumerate(dataset.views):
            np.testing.assert_array_equal(episode.views[view], numbered(number, STEPS, place))
        np.testing.assert_array_equal(episode.actions, vectors(number, STEPS, 7))
    arrays = "actions (7 wide), eef_pos (3 wide), gripper_pos (2 wide) and joint_pos (9 wide)"
    how = "name those that make up the state, such as --state-columns eef_pos gripper_pos"
    assert unused(dataset) == [
        f"{file}: no state is read, as none of the known names is there; what there is: {arrays}; {how}"
    ]


def test_columns_are_joined_in_the_order_given(file):
    dataset = open_any(
        file, reading=Reading(state_columns=("joint_pos", "gripper_pos"), action_columns=("obs/actions",))
    )
    assert (dataset.state_width, dataset.state_layout, dataset.action_width, dataset.action_layout) == (11, "", 7, "")
    states = dataset.episode(1, (), 2, 6).states
    np.testing.assert_array_equal(states, np.hstack([vectors(1, STEPS, 9) + 9, vectors(1, STEPS, 2) + 2])[2:6])
    assert dataset.fingerprint != open_any(file).fingerprint
    assert "numbers that are no part of the state: eef_pos (3 wide); name those" in unused(dataset)[0]
    assert "numbers that are no part of the action: actions (7 wide)" in unused(dataset)[1]
    for reading in (Reading(state_columns=("joint",)), Reading(action_columns=("joint",))):
        with pytest.raises(UserError, match=r"no array of numbers 'joint'; .*known: .*actions.*gripper_pos"):
            open_any(file, reading=reading)


def test_names_are_short_where_no_two_views_share_one(file):
    def change(demo, number):
        demo.move("obs/table_cam", "obs/front_image")
        for place, name in enumerate(("policy/front_rgb", "policy/side_rgb", "policy/wrist_cam"), 2):
            demo[f"obs/{name}"] = numbered(number, STEPS, place)

    edit(file, change)
    dataset = open_any(file)
    assert set(dataset.views) == {"front_image", "front_rgb", "side", "wrist_cam", "policy/wrist_cam"}
    for view, place in (("front_image", 0), ("wrist_cam", 1), ("side", 3), ("policy/wrist_cam", 4)):
        np.testing.assert_array_equal(dataset.episode(2).views[view], numbered(2, STEPS, place))


def test_what_is_no_picture_is_named_and_transparency_is_dropped(file):
    def change(demo, number):
        demo["obs/table_depth"] = np.zeros((STEPS, 16, 16, 1), np.float32)
        demo["obs/table_normals"] = np.zeros((STEPS, 16, 16, 3), np.float32)
        demo["obs/policy/heights"] = np.zeros((STEPS, 16, 16), np.uint8)
        picture = numbered(number, STEPS, 1)
        del demo["obs/wrist_cam"]
        demo["obs/wrist_cam"] = np.concatenate([picture, picture[..., :1]], 3)

    edit(file, change)
    dataset = open_any(file)
    np.testing.assert_array_equal(dataset.episode(1).views["wrist_cam"], numbered(1, STEPS, 1))
    said = unused(dataset)
    named = "policy/heights (uint8, 16x16), table_depth (float32, 16x16x1) and table_normals (float32, 16x16x3)"
    assert f"{file}: neither images in 8-bit RGB nor rows of numbers, so not read: {named}" in said
    assert f"{file}: a fourth channel, taken for transparency and not read, of the view wrist_cam" in said


def test_a_file_of_pictures_of_another_kind_names_them(file):
    def change(demo, number):
        del demo["obs/wrist_cam"], demo["obs/table_cam"]
        demo["obs/table_cam"] = np.zeros((STEPS, 16, 16, 3), np.float32)

    edit(file, change)
    with pytest.raises(UserError, match=r"no images in 8-bit RGB among .*, but table_cam \(float32, 16x16x3\)"):
        open_any(file)


def test_actions_of_another_name_are_not_lost_in_silence(file):
    edit(file, lambda demo, number: demo.move("actions", "actions_abs"))
    dataset = open_any(file)
    assert (dataset.action_width, dataset.episode(0).actions) == (None, None)
    (note,) = [note for note in dataset.notes if note.kind == "left out"]
    assert note.text.endswith(
        "only its video is read; actions_abs (7 wide) could be the action: --action-columns actions_abs"
    )
    named = open_any(file, reading=Reading(action_columns=("actions_abs",)))
    np.testing.assert_array_equal(named.episode(2).actions, vectors(2, STEPS, 7))
