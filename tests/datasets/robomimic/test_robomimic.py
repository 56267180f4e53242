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
from videopolicy.datasets.robomimic import open_dataset
from videopolicy.errors import UserError

FLOATS = np.zeros((13, 8, 8, 3), np.float32)
IDENTITY = (1.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def robocasa(tmp_path_factory):
    return write_robocasa(tmp_path_factory.mktemp("casa") / "demo_gentex_im256_randcams.hdf5", recorded())


@pytest.fixture(scope="module")
def libero(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libero_90")
    return write_libero(folder / "KITCHEN_SCENE7_open_the_microwave_demo.hdf5", recorded())


@pytest.fixture
def spoilt(robocasa, tmp_path):
    """A copy of RoboCasa's file, open for writing; refused(...) closes it."""
    file = tmp_path / "spoilt.hdf5"
    file.write_bytes(robocasa.read_bytes())
    with h5py.File(file, "r+") as root:
        yield root


def refused(root: h5py.File) -> str:
    """What is said about a file when it is opened, and all of it read."""
    file = root.filename
    root.close()
    with pytest.raises(UserError) as caught:
        dataset = open_dataset(Path(file))
        for index in range(len(dataset)):
            dataset.episode(index)
    message = str(caught.value)
    assert "\n" not in message and file in message
    return message


def replace(group, name, values):
    if name in group:
        del group[name]
    group[name] = values


def test_robocasa_reads_as_it_was_stored(robocasa):
    dataset = open_dataset(robocasa)
    assert set(dataset.views) == {name.removesuffix("_image") for name in ROBOCASA}
    assert (dataset.fps, dataset.action_width, dataset.state_width, dataset.skipped) == (20, 7, 9, ())
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
    assert (dataset.views, dataset.fps, dataset.skipped) == (("agentview", "eye_in_hand"), 20, ())
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
    asked = []
    real = robomimic.rows
    monkeypatch.setattr(robomimic, "rows", lambda values, *ends: asked.append(ends) or real(values, *ends))
    open_dataset(libero).episode(0, ["agentview"], 3, 6)
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
    assert [line.split(": ", 1)[1] for line in dataset.skipped] == [
        f"demo_{number}: a known bad recording of TurnOnStove" for number in (33, 37)
    ]
    other = open_dataset(write_robocasa(tmp_path / "other.hdf5", recorded(), "TurnOffStove", numbers=[33, 36, 37]))
    assert (len(other), other.skipped) == (3, ())


def test_an_episode_whose_base_moves_is_skipped_and_said_so(spoilt, robocasa):
    actions = spoilt["data/demo_1/actions"][()]
    actions[3, 7] = 0.5
    replace(spoilt["data/demo_1"], "actions", actions)
    file = spoilt.filename
    spoilt.close()
    dataset = open_dataset(Path(file))
    assert len(dataset) == len(recorded()) - 1
    assert "demo_1: its base is not at rest" in dataset.skipped[0]


def test_demonstrations_that_vanished_are_said(spoilt):
    file = spoilt.filename
    spoilt.move("data/demo_1", "data/other")
    del spoilt["data/demo_2"]
    spoilt.close()
    skipped = " ".join(open_dataset(Path(file)).skipped)
    assert "'other' is not called demo_ and a number" in skipped and "steps in total" in skipped


SPOILS = {
    "actions, but robot0_eye_in_hand_image has 5": lambda demo: demo["obs/robot0_eye_in_hand_image"].resize(5, 0),
    "actions, but robot0_eef_pos has 2": lambda demo: replace(demo, "obs/robot0_eef_pos", np.zeros((2, 3))),
    "robot0_eye_in_hand_image is float32": lambda demo: replace(demo, "obs/robot0_eye_in_hand_image", FLOATS),
    "robot0_agentview_left_image has the size": lambda demo: replace(
        demo, "obs/robot0_agentview_left_image", np.zeros((len(demo["actions"]), 8, 8, 3), np.uint8)
    ),
    "actions at step 4 is NaN or infinite": lambda demo: demo["actions"].__setitem__((4, 2), np.nan),
    "robot0_eef_pos at step 3 is NaN or infinite": lambda demo: demo["obs/robot0_eef_pos"].__setitem__((3, 2), 1e300),
    "lacks 'actions'": lambda demo: demo.__delitem__("actions"),
    "lacks 'obs'": lambda demo: demo.__delitem__("obs"),
    "obs is not a group": lambda demo: replace(demo, "obs", 3),
    "actions is not an array": lambda demo: demo.__delitem__("actions") or demo.create_group("actions"),
    "actions are |S3": lambda demo: replace(demo, "actions", np.array([[b"abc"]] * 13)),
    "should be JSON": lambda demo: demo.attrs.__setitem__("ep_meta", "{"),
    "should be text": lambda demo: demo.attrs.__setitem__("ep_meta", np.zeros(3)),
    "`lang` in ep_meta": lambda demo: demo.attrs.__setitem__("ep_meta", json.dumps({"lang": 3})),
    "num_samples has 99": lambda demo: demo.attrs.__setitem__("num_samples", 99),
    "its views": lambda demo: demo["obs"].__delitem__("robot0_eye_in_hand_image"),
    "its states": lambda demo: demo["obs"].__delitem__("robot0_eef_quat"),
    "a position is (steps, 3)": lambda demo: replace(demo, "obs/robot0_eef_pos", np.zeros((13, 2))),
    "are the view 'robot0_eye_in_hand'": lambda demo: replace(
        demo, "obs/robot0_eye_in_hand_rgb", demo["obs/robot0_eye_in_hand_image"][()]
    ),
}


@pytest.mark.parametrize("message", list(SPOILS))
def test_what_is_wrong_with_a_demonstration_is_said_by_its_name(spoilt, message):
    SPOILS[message](spoilt["data/demo_1"])
    said = refused(spoilt)
    assert "demo_1" in said and message in said


def test_what_was_never_written_is_not_taken_for_black(spoilt):
    length = len(spoilt["data/demo_1/actions"])
    for chunks in (None, (1, 32, 32, 3)):
        del spoilt["data/demo_1/obs/robot0_eye_in_hand_image"]
        shape = (length, 32, 32, 3)
        spoilt["data/demo_1/obs"].create_dataset("robot0_eye_in_hand_image", shape, np.uint8, chunks=chunks)
        if chunks:
            spoilt["data/demo_1/obs/robot0_eye_in_hand_image"][: length - 1] = 7
        spoilt.flush()
        with pytest.raises(UserError, match="not written to its end"):
            open_dataset(Path(spoilt.filename)).episode(1)


def test_nothing_outside_the_file_is_read(spoilt, libero, tmp_path):
    images = "data/demo_1/obs/robot0_eye_in_hand_image"
    shape = spoilt[images].shape
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(int(np.prod(shape))))
    layout = h5py.VirtualLayout(shape, np.uint8)
    layout[:] = h5py.VirtualSource(libero, "data/demo_1/obs/agentview_rgb", shape)
    ways = {
        "is a link to elsewhere": lambda: spoilt.__setitem__(images, h5py.ExternalLink(libero, "data/demo_0/actions")),
        "is a link": lambda: spoilt.__setitem__(images, h5py.SoftLink("/data/demo_0/obs")),
        "another file": lambda: spoilt.create_virtual_dataset(images, layout),
        "in another file": lambda: spoilt.create_dataset(images, shape, np.uint8, external=[(str(secret), 0, 10**6)]),
    }
    for message, way in ways.items():
        del spoilt[images]
        way()
        spoilt.flush()
        with pytest.raises(UserError, match=message):
            open_dataset(Path(spoilt.filename))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("env_args", json.dumps({"env_kwargs": {"control_freq": -1}}), "control_freq is -1"),
        ("env_args", json.dumps([1]), "should be a JSON object"),
        ("env_args", json.dumps({"env_kwargs": 3}), "not readable"),
        ("env_args", "[" * 100_000, "should be JSON"),
        ("macros_image_convention", "sideways", "stored as 'sideways'"),
        ("total", "many", "should be a number"),
    ],
)
def test_what_is_wrong_with_a_files_attributes_is_said(spoilt, name, value, message):
    spoilt["data"].attrs[name] = value
    assert message in refused(spoilt)


def test_files_that_do_not_fit_together_are_refused(robocasa, libero, tmp_path):
    for name, source in (("a.hdf5", robocasa), ("b.hdf5", libero)):
        (tmp_path / name).write_bytes(source.read_bytes())
    with pytest.raises(UserError, match=r"b\.hdf5: demo_0: its views .* read them as two data sets"):
        open_dataset(tmp_path)


def test_a_file_without_images_says_so(spoilt):
    for demo in spoilt["data"].values():
        for name in ROBOCASA:
            del demo["obs"][name]
    assert "demo_0: no images among its observations" in refused(spoilt)


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
