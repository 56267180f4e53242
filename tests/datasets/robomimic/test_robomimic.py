"""On files with the published schemas of RoboCasa, LIBERO and robomimic, and on what goes wrong with them."""

import json
import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.datasets.hdf5 import ROBOCASA, arm, pose, recorded, write_libero, write_robocasa, write_robomimic

from videopolicy.actions.layout import Layout
from videopolicy.datasets import robomimic
from videopolicy.datasets.hdf5 import stored
from videopolicy.datasets.robomimic import open_dataset

IDENTITY = (1.0, 0.0, 0.0, 0.0)


def lost(dataset):
    return [note for note in dataset.notes if note.kind != "unused"]


def test_robocasa_reads_as_it_was_stored(robocasa):
    dataset = open_dataset(robocasa)
    assert set(dataset.views) == {name.removesuffix("_image") for name in ROBOCASA}
    assert (dataset.fps, dataset.action_width, dataset.state_width, lost(dataset)) == (20, 7, 9, [])
    assert set(dataset.tasks) == {"reach the red disc", "reach the blue disc"}
    for index, original in enumerate(recorded()):
        episode = dataset.episode(index)
        assert (episode.instruction, episode.task, episode.success) == (original.instruction, "OpenDrawer", None)
        np.testing.assert_array_equal(episode.views["robot0_agentview_left"], original.views["top"])
        np.testing.assert_array_equal(episode.views["robot0_eye_in_hand"], original.views["close"])
        np.testing.assert_array_equal(episode.actions, arm(original).astype(np.float32))
        np.testing.assert_array_equal(episode.states, np.hstack(pose(original, IDENTITY)).astype(np.float32))


@pytest.mark.parametrize("attributes", [True, False])
def test_libero_is_upright_and_each_frame_goes_with_the_action_that_followed_it(tmp_path, attributes):
    file = write_libero(tmp_path / "KITCHEN_SCENE7_open_the_microwave_demo.hdf5", recorded(), attributes)
    dataset = open_dataset(file)
    assert (dataset.views, dataset.fps, lost(dataset)) == (("agentview", "eye_in_hand"), 20, [])
    assert dataset.tasks == ("open the microwave",)
    for index, original in enumerate(recorded()):
        # The published files hold neither the frame before the first action nor an action after the last frame.
        kept = slice(1, len(original) - 1) if attributes else slice(0, len(original))
        episode = dataset.episode(index)
        assert (len(episode), dataset.length(index)) == (kept.stop - kept.start,) * 2
        assert episode.task == "KITCHEN_SCENE7_open_the_microwave"
        np.testing.assert_array_equal(episode.views["agentview"], original.views["top"][kept])
        np.testing.assert_array_equal(episode.views["eye_in_hand"], original.views["close"][kept])
        np.testing.assert_array_equal(episode.actions, arm(original)[kept].astype(np.float32))
        np.testing.assert_array_equal(episode.states, np.hstack(pose(original, (0, np.pi, 0)))[kept].astype("f4"))


def test_libero_that_says_it_is_upright_is_not_turned(libero, tmp_path):
    file = tmp_path / "upright.hdf5"
    file.write_bytes(libero.read_bytes())
    with h5py.File(file, "r+") as root:
        root["data"].attrs["macros_image_convention"] = "opencv"
    turned, plain = open_dataset(libero).episode(0), open_dataset(file).episode(0)
    np.testing.assert_array_equal(turned.views["agentview"], plain.views["agentview"][:, ::-1])


def test_robomimics_own_files_open_with_the_name_of_the_task_as_instruction(tmp_path):
    dataset = open_dataset(write_robomimic(tmp_path / "image.hdf5", recorded()))
    assert (dataset.views, dataset.tasks, dataset.fps) == (("agentview",), ("nut assembly square",), 10)
    assert (dataset.state_width, dataset.state_layout, dataset.episode(0).states) == (None, "", None)
    # The controller takes absolute poses here, so the actions have no meaning that is known.
    assert (dataset.action_width, dataset.action_layout) == (7, "")
    np.testing.assert_array_equal(dataset.episode(0).views["agentview"], recorded()[0].views["top"])


def test_the_meaning_of_actions_and_states_is_as_wide_as_they_are(robocasa, libero):
    for file in (robocasa, libero):
        dataset = open_dataset(file)
        action, state = Layout.parse(dataset.action_layout), Layout.parse(dataset.state_layout)
        assert (action.width, state.width) == (dataset.action_width, dataset.state_width)
        assert str(action) == "delta_position delta_axis_angle gripper[-1,1]"


@pytest.mark.parametrize(
    ("controller", "known"),
    [
        ({"type": "OSC_POSE"}, True),
        ({"type": "OSC_POSE", "control_delta": False}, False),
        ({"type": "JOINT_POSITION", "control_delta": True}, False),
        ([{"type": "OSC_POSE", "control_delta": True}], True),
        ([{"type": "OSC_POSE"}, {"type": "OSC_POSE"}], False),
        ({"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE", "input_type": "delta"}}}, True),
        ({"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE", "input_type": "absolute"}}}, False),
        ("default", False),
        (None, False),
    ],
)
def test_only_a_controller_of_the_pose_in_steps_gives_actions_a_meaning(spoilt, controller, known):
    spoilt["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"controller_configs": controller}})
    spoilt.flush()
    dataset = open_dataset(Path(spoilt.filename))
    assert dataset.action_layout == ("delta_position delta_axis_angle gripper[-1,1]" if known else "")


def test_twelve_dimensions_of_another_robot_are_all_read(spoilt):
    for demo in spoilt["data"].values():
        del demo.attrs["ep_meta"]
    spoilt.flush()
    dataset = open_dataset(Path(spoilt.filename))
    assert (dataset.action_width, dataset.action_layout) == (12, "")
    np.testing.assert_array_equal(dataset.episode(0).actions, spoilt["data/demo_0/actions"][()].astype(np.float32))


def test_blocks_join_to_the_whole(robocasa, libero):
    for file in (robocasa, libero):
        dataset = open_dataset(file)
        whole = dataset.episode(1)
        parts = [dataset.episode(1, None, start, start + 5) for start in range(0, dataset.length(1), 5)]
        for view in dataset.views:
            np.testing.assert_array_equal(np.concatenate([part.views[view] for part in parts]), whole.views[view])
        np.testing.assert_array_equal(np.concatenate([part.actions for part in parts]), whole.actions)
        np.testing.assert_array_equal(np.concatenate([part.states for part in parts]), whole.states)


def test_only_the_slice_is_read(libero, monkeypatch):
    dataset, asked = open_dataset(libero), []
    real = stored.rows
    monkeypatch.setattr(stored, "rows", lambda values, *ends: asked.append(ends) or real(values, *ends))
    dataset.episode(0, ["agentview"], 3, 6)
    assert set(asked) == {(3, 6), (4, 7)}


def test_demonstrations_are_in_the_order_of_their_numbers_and_files_in_that_of_their_names(tmp_path):
    numbers = [10, 2, 1]
    write_robocasa(tmp_path / "v0.1" / "b" / "demo.hdf5", recorded(), "CloseDrawer", numbers=numbers)
    write_robocasa(tmp_path / "v0.1" / "a" / "demo.hdf5", recorded(1), "OpenDrawer")
    dataset = open_dataset(tmp_path)
    assert [dataset.episode(index).task for index in range(4)] == ["OpenDrawer"] + 3 * ["CloseDrawer"]
    lengths = [len(episode) for episode in recorded()]
    assert [dataset.length(index) for index in range(4)] == [lengths[0], *reversed(lengths)]


def test_the_two_bad_demonstrations_of_turn_on_stove_are_skipped_and_said_so(tmp_path):
    file = write_robocasa(tmp_path / "demo.hdf5", recorded(), "TurnOnStove", numbers=[33, 36, 37])
    dataset = open_dataset(file)
    assert len(dataset) == 1 and dataset.length(0) == len(recorded()[1])
    assert [str(note) for note in lost(dataset)] == [
        f"{file}: demo_33 and demo_37: is a known bad recording of TurnOnStove (episodes 0, 2)"
    ]
    assert dataset.number(0) == 1
    other = open_dataset(write_robocasa(tmp_path / "other.hdf5", recorded(), "TurnOffStove", numbers=[33, 36, 37]))
    assert (len(other), lost(other)) == (3, [])


def test_it_is_recognised_by_its_files(robocasa, tmp_path):
    assert robomimic.recognises(robocasa) and robomimic.recognises(robocasa.parent)
    assert not robomimic.recognises(tmp_path) and not robomimic.recognises(tmp_path / "missing.hdf5")


def test_the_fingerprint_follows_the_attributes_and_not_the_place(robocasa, spoilt, tmp_path):
    first = open_dataset(robocasa).fingerprint
    spoilt.flush()
    assert open_dataset(Path(spoilt.filename)).fingerprint == first
    spoilt["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "open the drawer"})
    spoilt.flush()
    assert open_dataset(Path(spoilt.filename)).fingerprint != first


def _sum(dataset, index):
    return int(dataset.episode(index).views[dataset.views[0]].sum())


def test_it_travels_to_other_processes_and_holds_no_file_open(robocasa):
    dataset = open_dataset(robocasa)
    expected = [_sum(dataset, index) for index in range(3)]
    assert robocasa not in [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    assert [_sum(pickle.loads(pickle.dumps(dataset)), index) for index in range(3)] == expected
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(_sum, [(dataset, index % 3) for index in range(12)]) == 4 * expected
