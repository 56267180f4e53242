"""One odd demonstration, or one damaged file, costs only itself, and is named."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.datasets.hdf5 import ROBOCASA, arm, recorded

from videopolicy.datasets.conversion.convert import convert
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.notes import left_out
from videopolicy.datasets.reading import Reading
from videopolicy.datasets.robomimic import open_dataset
from videopolicy.errors import UserError

LENGTH = len(recorded()[1])
FLOATS = np.zeros((LENGTH, 8, 8, 3), np.float32)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5000\n"
ARRAYS = ("actions", *(f"obs/{key}" for key in (*ROBOCASA, "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")))


def told(root: h5py.File, *kinds: str) -> list[str]:
    """What is said about a file of three demonstrations, whose second is odd, when it is opened, and all of it read."""
    file = root.filename
    root.close()
    dataset = open_dataset(Path(file))
    said, numbers = [str(note) for note in dataset.notes if note.kind in (kinds or ("left out",))], []
    for index in range(len(dataset)):
        number = dataset.number(index)
        try:
            found = dataset.episode(index)
        except UserError as error:
            said.append(f"{error} (episode {number})")
        else:
            np.testing.assert_array_equal(found.views["robot0_agentview_left"], recorded()[number].views["top"])
            np.testing.assert_array_equal(found.actions, arm(recorded()[number]).astype(np.float32))
            numbers.append(number)
    assert numbers == ([0, 1, 2] if kinds else [0, 2])
    assert all("\n" not in line and file in line for line in said)
    return said


def refused(root: h5py.File) -> str:
    """What is said about a file none of which can be read."""
    file = root.filename
    root.close()
    with pytest.raises(UserError) as caught:
        open_dataset(Path(file))
    message = str(caught.value)
    assert "\n" not in message and file in message
    return message


def lost(dataset):
    return [note for note in dataset.notes if note.kind != "unused"]


def replace(group, name, values):
    if name in group:
        del group[name]
    group[name] = values


def test_an_episode_whose_base_moves_is_left_out_and_said_so(spoilt):
    actions = spoilt["data/demo_1/actions"][()]
    actions[3, 7] = 0.5
    replace(spoilt["data/demo_1"], "actions", actions)
    (said,) = told(spoilt)
    assert "demo_1: its base is not at rest" in said


def test_a_demonstration_that_vanished_is_said_and_one_of_another_name_is_read(spoilt):
    file = spoilt.filename
    spoilt.move("data/demo_1", "data/other")
    del spoilt["data/demo_2"]
    spoilt["data/readme"] = np.zeros(3)
    spoilt.close()
    dataset = open_dataset(Path(file))
    np.testing.assert_array_equal(dataset.episode(1).views["robot0_agentview_left"], recorded()[1].views["top"])
    steps = [sum(len(episode) for episode in recorded(count)) for count in (2, 3)]
    assert [str(note) for note in lost(dataset)] == [
        f"{file}: says it has {steps[1]} steps in total, but its demonstrations have {steps[0]}; were some removed?"
    ]
    assert f"{file}: data holds readme, which is no demonstration" in map(str, dataset.notes)


SPOILS = {
    f"actions has {LENGTH} rows, but obs/robot0_eye_in_hand_image has 5": lambda demo: demo[
        "obs/robot0_eye_in_hand_image"
    ].resize(5, 0),
    f"actions has {LENGTH} rows, but obs/robot0_eef_pos has 2": lambda demo: replace(
        demo, "obs/robot0_eef_pos", np.zeros((2, 3))
    ),
    "lacks the view robot0_eye_in_hand, which the others have, but has robot0_eye_in_hand_image (float32, 8x8x3)": (
        lambda demo: replace(demo, "obs/robot0_eye_in_hand_image", FLOATS)
    ),
    "its view robot0_agentview_left has 8x8 pixels, that of the others 32x32": lambda demo: replace(
        demo, "obs/robot0_agentview_left_image", np.zeros((len(demo["actions"]), 8, 8, 3), np.uint8)
    ),
    "actions has a value that is NaN or infinite at step 4": lambda demo: demo["actions"].__setitem__((4, 2), np.nan),
    "robot0_eef_pos has a value that is NaN or infinite at step 3": lambda demo: demo["obs/robot0_eef_pos"].__setitem__(
        (3, 2), 1e300
    ),
    "obs is missing": lambda demo: demo.__delitem__("obs"),
    "obs is not a group": lambda demo: replace(demo, "obs", 3),
    "actions is not an array": lambda demo: demo.__delitem__("actions") or demo.create_group("actions"),
    "actions are |S3": lambda demo: replace(demo, "actions", np.array([[b"abc"]] * LENGTH)),
    "its actions are 8 wide, those of the others 7": lambda demo: replace(demo, "actions", np.zeros((LENGTH, 8))),
    "should be JSON": lambda demo: demo.attrs.__setitem__("ep_meta", "{"),
    "ep_meta is an attribute that should be text": lambda demo: demo.attrs.__setitem__("ep_meta", np.zeros(3)),
    "should be UTF-8 text": lambda demo: demo.attrs.__setitem__("ep_meta", b"\xff{}"),
    "`lang` in ep_meta": lambda demo: demo.attrs.__setitem__("ep_meta", json.dumps({"lang": 3})),
    "lacks the view robot0_eye_in_hand": lambda demo: demo["obs"].__delitem__("robot0_eye_in_hand_image"),
    "its states are robot0_eef_pos (3 wide) and robot0_gripper_qpos": lambda demo: demo["obs"].__delitem__(
        "robot0_eef_quat"
    ),
    "its states are robot0_eef_pos (2 wide)": lambda demo: replace(demo, "obs/robot0_eef_pos", np.zeros((LENGTH, 2))),
    "lacks the view robot0_eye_in_hand, which": lambda demo: demo["obs"].move(
        "robot0_eye_in_hand_image", "robot0_eye_in_hand_picture"
    ),
    "has no control steps": lambda demo: [replace(demo, name, demo[name][:0]) for name in ARRAYS],
}


@pytest.mark.parametrize("message", list(SPOILS))
def test_what_is_wrong_with_a_demonstration_costs_only_itself_and_is_said_by_its_name(spoilt, message):
    SPOILS[message](spoilt["data/demo_1"])
    (said,) = told(spoilt)
    assert "demo_1" in said and message in said and "(episode 1)" in said


def test_what_is_usual_is_what_most_are_though_the_first_be_odd(robocasa, tmp_path):
    file = tmp_path / "odd.hdf5"
    file.write_bytes(robocasa.read_bytes())
    with h5py.File(file, "r+") as root:
        del root["data/demo_0/obs/robot0_eye_in_hand_image"]
        replace(root["data/demo_0"], "actions", np.zeros((len(recorded()[0]), 5)))
    dataset = open_dataset(file)
    assert [dataset.number(index) for index in range(len(dataset))] == [1, 2]
    assert (len(dataset.views), dataset.action_width) == (3, 7)
    np.testing.assert_array_equal(dataset.episode(0).actions, arm(recorded()[1]).astype(np.float32))
    with pytest.raises(UserError, match=r"demo_0: lacks the view robot0_eye_in_hand.*--strict refuses that"):
        open_any(file, reading=Reading(strict=True))


def test_a_view_and_a_state_that_only_few_have_cost_nobody_else(spoilt):
    for name, values in (("extra_image", np.zeros((LENGTH, 8, 8, 3), np.uint8)), ("depth", FLOATS[..., :1])):
        spoilt[f"data/demo_1/obs/{name}"] = values
    for demo in (spoilt["data/demo_0"], spoilt["data/demo_2"]):
        del demo["obs/robot0_eef_quat"]
    file = spoilt.filename
    said = told(spoilt, "unused")
    assert f"{file}: demo_1: the view extra is not read, as most lack it" in said
    assert f"{file}: neither images in 8-bit RGB nor rows of numbers, so not read: depth (float32, 8x8x1)" in said
    assert any("no part of the state: robot0_eef_quat (4 wide);" in line for line in said)
    dataset = open_dataset(Path(file))
    assert (dataset.state_layout, dataset.episode(1).states.shape[1]) == ("position gripper:2", 5)


def test_without_actions_a_demonstration_is_video(spoilt):
    del spoilt["data/demo_1/actions"]
    file = spoilt.filename
    spoilt.close()
    dataset = open_dataset(Path(file))
    episode = dataset.episode(1)
    assert (len(dataset), dataset.action_width, episode.actions, left_out(dataset.notes)) == (3, 7, None, 0)
    np.testing.assert_array_equal(episode.views["robot0_agentview_left"], recorded()[1].views["top"])
    (note,) = lost(dataset)
    assert (note.kind, note.episodes) == ("video only", (1,))
    assert f"{file}: demo_1: has no actions; action_dict/rel_pos (3 wide)" in str(note)


def test_a_conversion_is_of_the_kind_of_those_that_act(spoilt, tmp_path):
    del spoilt["data/demo_0/actions"]
    spoilt.flush()
    outcome = convert(ConversionSource(Path(spoilt.filename)), tmp_path / "converted", 1)
    assert (outcome.episodes, outcome.has_actions) == (2, True)
    acting = [(note.kind, note.episodes) for note in outcome.notes if "has no actions" in note.text]
    assert acting == [("left out", (0,))]


def test_a_count_that_disagrees_is_mended_and_said(spoilt):
    spoilt["data/demo_1"].attrs["num_samples"] = 99
    (said,) = told(spoilt, "mended")
    assert f"demo_1: says it has 99 steps, but its arrays have {LENGTH}, which are read" in said


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
        (note,) = lost(open_dataset(Path(spoilt.filename)))
        assert message in note.text and note.episodes == (1,)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("env_args", json.dumps({"env_kwargs": {"control_freq": -1}}), "control_freq is no rate; 20 steps a second"),
        ("env_args", json.dumps([1]), "the attribute env_args is not readable"),
        ("env_args", json.dumps({"env_kwargs": 3}), "does not say its rate; 20 steps a second are assumed"),
        ("env_args", "[" * 100_000, "the attribute env_args is not readable"),
        ("total", "many", "total is an attribute that should be a number, and is not used"),
    ],
)
def test_what_is_wrong_with_a_files_attributes_is_said_and_costs_only_itself(spoilt, name, value, message):
    spoilt["data"].attrs[name] = value
    assert any(message in line for line in told(spoilt, "mended", "assumed"))


def test_a_file_whose_images_could_be_upside_down_is_refused(spoilt):
    spoilt["data"].attrs["macros_image_convention"] = "sideways"
    assert "stored as 'sideways'; known: opengl, opencv (episodes 0-2)" in refused(spoilt)


@pytest.mark.parametrize(
    ("made", "fps", "kinds"),
    [
        ({"type": 1}, 20, []),
        ({"type": 2}, 20, ["assumed"]),
        ({"type": 2, "sim_args": {"dt": 0.01, "decimation": 5}}, 20, []),
        ({"type": 2, "sim_args": {"dt": 0.005, "decimation": 4, "num_envs": 1}}, 50, []),
        ({"type": 2, "sim_args": {"dt": 0, "decimation": 4}}, 20, ["assumed"]),
    ],
)
def test_a_rate_that_is_not_said_is_derived_or_assumed_aloud(spoilt, made, fps, kinds):
    spoilt["data"].attrs["env_args"] = json.dumps(made)
    spoilt.flush()
    dataset = open_dataset(Path(spoilt.filename))
    assert (dataset.fps, [note.kind for note in lost(dataset)]) == (fps, kinds)


def test_of_files_that_do_not_fit_together_the_fewer_are_left_out(robocasa, libero, tmp_path):
    for name, source in (("a.hdf5", robocasa), ("b.hdf5", libero)):
        (tmp_path / name).write_bytes(source.read_bytes())
    with h5py.File(tmp_path / "b.hdf5", "r+") as root:
        del root["data/demo_2"]
        del root["data"].attrs["total"]
    dataset = open_dataset(tmp_path)
    (note,) = lost(dataset)
    assert (len(dataset), dataset.path, note.episodes) == (3, tmp_path, (3, 4))
    assert "b.hdf5: demo_0 and demo_1: lacks the view robot0_agentview_left, robot0_agentview_right" in note.text


def test_a_file_without_images_says_so(spoilt):
    for demo in spoilt["data"].values():
        for name in ROBOCASA:
            del demo["obs"][name]
    assert "demo_0, demo_1 and demo_2: no images in 8-bit RGB among its observations" in refused(spoilt)


def test_files_that_cannot_be_opened_cost_only_themselves(robocasa, tmp_path):
    content = robocasa.read_bytes()
    spoilt = {"b": POINTER, "c": b"", "d": b"no HDF5 at all", "e": content[: len(content) // 2]}
    for name, held in {"a": content, **spoilt, "f": content}.items():
        (tmp_path / f"{name}.hdf5").write_bytes(held)
    dataset = open_dataset(tmp_path)
    assert [dataset.number(index) for index in range(len(dataset))] == [*range(6)]
    np.testing.assert_array_equal(dataset.episode(4).actions, arm(recorded()[1]).astype(np.float32))
    said = [str(note) for note in lost(dataset)]
    words = ["is a pointer of Git LFS, not the file itself; get it with `git lfs pull`", "is empty", "is not HDF5"]
    for name, word, line in zip("bcde", [*words, "is cut short; copy or download it again"], said, strict=True):
        assert line.startswith(f"{tmp_path / name}.hdf5: {word}")
    with pytest.raises(UserError, match=r"no episode can be read: .*b\.hdf5: is a pointer of Git LFS"):
        open_dataset(tmp_path / "b.hdf5")


def test_a_file_of_another_layout_says_what_is_there(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as root:
        root["trajectories/0"] = np.zeros(3)
    with pytest.raises(UserError, match="has no group data, as files of robomimic have, but trajectories"):
        open_dataset(tmp_path)


def test_linked_folders_are_read_and_twins_of_macos_are_not(robocasa, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(robocasa.parent)
    (tmp_path / "set" / "._demo.hdf5").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "set" / "nothing.hdf5").symlink_to(tmp_path / "gone.hdf5")
    dataset = open_dataset(tmp_path / "set")
    assert (len(dataset), [note.text for note in lost(dataset)]) == (3, [f"{tmp_path}/set/nothing.hdf5: no such file"])
