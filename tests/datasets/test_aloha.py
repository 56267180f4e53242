"""ALOHA's and ACT's HDF5, one file an episode: pictures as arrays or compressed, and what goes wrong with them."""

import io
import pickle

import h5py
import numpy as np
import pytest
from PIL import Image
from tests.datasets.hdf5 import numbered, vectors, write_aloha, write_isaac

from videopolicy.datasets import aloha, robomimic
from videopolicy.datasets.formats import guess_format, open_any
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError
from videopolicy.types import Episode

STEPS, VIEWS = 6, ("cam_high", "cam_left_wrist")


def stored(number):
    frames = {view: numbered(number, STEPS, place) for place, view in enumerate(VIEWS)}
    return Episode(frames, f"fold towel {number % 2}", 30, vectors(number, STEPS, 14), -vectors(number, STEPS, 14))


@pytest.fixture(params=["", "JPEG", "PNG"])
def folder(request, tmp_path):
    write_aloha(tmp_path / "towels", [stored(number) for number in range(12)], request.param)
    return tmp_path / "towels"


@pytest.fixture
def spoilt(tmp_path):
    """A folder of three, and the second of its files, open for writing."""
    write_aloha(tmp_path / "fold_the_towel", [stored(number) for number in range(3)], "JPEG")
    with h5py.File(tmp_path / "fold_the_towel" / "episode_1.hdf5", "r+") as root:
        yield tmp_path / "fold_the_towel", root


def lost(dataset):
    return [note for note in dataset.notes if note.kind == "left out"]


def test_it_reads_as_it_was_stored_in_the_order_of_the_numbers(folder):
    assert guess_format(folder) == guess_format(folder / "episode_0.hdf5") == "aloha"
    dataset = pickle.loads(pickle.dumps(open_any(folder)))
    assert (dataset.views, dataset.fps, dataset.action_width, dataset.state_width) == (VIEWS, 30, 14, 14)
    assert dataset.tasks == ("fold towel 0", "fold towel 1")
    assert [dataset.number(index) for index in range(len(dataset))] == [*range(12)]
    for number in range(12):
        episode, original = dataset.episode(number), stored(number)
        for view in VIEWS:
            assert np.abs(episode.views[view].astype(int) - original.views[view]).mean() < 3
        np.testing.assert_array_equal(episode.actions, original.actions)
        np.testing.assert_array_equal(episode.states, original.states)
        assert episode.instruction == original.instruction


def test_of_compressed_pictures_only_those_asked_for_are_decoded(tmp_path):
    write_aloha(tmp_path / "towels", [stored(0)], "PNG")
    part = aloha.open_dataset(tmp_path / "towels").episode(0, ["cam_high"], 2, 5)
    np.testing.assert_array_equal(part.views["cam_high"], numbered(0, STEPS)[2:5])
    np.testing.assert_array_equal(part.actions, vectors(0, STEPS, 14)[2:5])


def test_red_and_blue_change_places_only_if_that_is_said_and_only_in_compressed_pictures(folder):
    plain, swapped = open_any(folder), open_any(folder, reading=Reading(swap_red_blue=True))
    one, other = (dataset.episode(1).views["cam_high"] for dataset in (plain, swapped))
    coded = any("--swap-red-blue" in note.text for note in plain.notes)
    np.testing.assert_array_equal(other, one[..., ::-1] if coded else one)
    assert not any("--swap-red-blue" in note.text for note in swapped.notes)
    assert (plain.fingerprint, {note.kind for note in plain.notes} - {"assumed"}) != (swapped.fingerprint, set())


def test_what_the_files_do_not_say_is_assumed_aloud(spoilt):
    folder, root = spoilt
    root.close()
    for file in folder.iterdir():
        with h5py.File(file, "r+") as opened:
            del opened.attrs["fps"], opened.attrs["instruction"]
    dataset = open_any(folder, reading=Reading(strict=True))
    assert (dataset.fps, dataset.tasks) == (50, ("fold the towel",))
    said = [note.text for note in dataset.notes if note.kind == "assumed"]
    assert (
        f"{folder / 'episode_0.hdf5'} and 2 other files: does not say its rate; 50 steps a second are assumed"
        in said[1]
    )
    assert "the folder's name is used: 'fold the towel'" in said[0]


def test_what_is_not_read_is_named_and_columns_are_joined_in_the_order_given(spoilt):
    folder, root = spoilt
    root.close()
    for number, file in enumerate(sorted(folder.iterdir())):
        with h5py.File(file, "r+") as opened:
            opened["base_action"] = vectors(number, STEPS, 2)
            opened["observations/qvel"] = 2 * vectors(number, STEPS, 14)
            opened["observations/images/depth"] = np.zeros((STEPS, 8, 8), np.uint16)
    said = " ".join(note.text for note in open_any(folder).notes if note.kind == "unused")
    for name in (
        "base_action (2 wide)",
        "qvel (14 wide)",
        "images/depth (uint16, 8x8)",
        "--action-columns base_action",
    ):
        assert name in said
    reading = Reading(action_columns=("base_action", "action"), state_columns=("qvel", "qpos"))
    dataset = open_any(folder, reading=reading)
    episode = dataset.episode(2)
    assert (dataset.action_width, dataset.state_width) == (16, 28)
    np.testing.assert_array_equal(episode.actions, np.hstack([vectors(2, STEPS, 2), vectors(2, STEPS, 14)]))
    np.testing.assert_array_equal(episode.states, np.hstack([2 * vectors(2, STEPS, 14), -vectors(2, STEPS, 14)]))
    with pytest.raises(UserError, match=r"--state-columns: no array of numbers 'qvl'; did you mean 'qvel'\?"):
        open_any(folder, reading=Reading(state_columns=("qvl",)))
    with pytest.raises(UserError, match="--mask has no meaning"):
        open_any(folder, reading=Reading(mask="train"))


def replace(root, name, values):
    del root[name]
    root[name] = values


def other_size(root):
    sink = io.BytesIO()
    Image.new("RGB", (16, 24)).save(sink, "PNG")
    replace(root, "observations/images/cam_high", np.tile(np.frombuffer(sink.getvalue(), np.uint8), (STEPS, 1)))


SPOILS = {
    "action has 5 rows, but observations/qpos has 6": lambda root: replace(root, "action", np.zeros((5, 14))),
    "its actions are 7 wide, those of the others 14": lambda root: replace(root, "action", np.zeros((STEPS, 7))),
    "its states are qpos (7 wide), those of the others": lambda root: replace(
        root, "observations/qpos", np.zeros((STEPS, 7))
    ),
    "lacks the view cam_high, which the others have": lambda root: root.__delitem__("observations/images/cam_high"),
    "its view cam_high has 16x24 pixels, that of the others 32x32": other_size,
    "it has 25 steps a second, the others 30": lambda root: root.attrs.__setitem__("fps", 25),
    "fps is an attribute that should be a number": lambda root: root.attrs.__setitem__("fps", "many"),
    "no images in 8-bit RGB in observations/images": lambda root: root.__delitem__("observations/images"),
    "observations is missing": lambda root: root.__delitem__("observations"),
    "picture 0 is damaged, or neither JPEG nor PNG": lambda root: root["observations/images/cam_high"].__setitem__(
        0, 7
    ),
}


@pytest.mark.parametrize("message", list(SPOILS))
def test_an_odd_episode_costs_only_itself(spoilt, message):
    folder, root = spoilt
    SPOILS[message](root)
    root.close()
    dataset = open_any(folder)
    (note,) = lost(dataset)
    assert message in note.text and note.text.startswith(f"{folder / 'episode_1.hdf5'}: ")
    assert (note.episodes, [dataset.number(index) for index in range(len(dataset))]) == ((1,), [0, 2])
    np.testing.assert_array_equal(dataset.episode(1).actions, vectors(2, STEPS, 14))


@pytest.mark.parametrize(("place", "value"), [(3, 0), (3, 255)])
def test_a_picture_that_is_damaged_or_cut_short_is_found_when_it_is_read(spoilt, place, value):
    folder, root = spoilt
    pictures = root["observations/images/cam_high"]
    pictures[place, pictures.shape[1] // 2 :] = value
    root.close()
    dataset = open_any(folder)
    assert len(dataset.episode(1, stop=place)) == place
    with pytest.raises(UserError, match=r"episode_1\.hdf5: /observations/images/cam_high: picture 3 is cut short"):
        dataset.episode(1)


def test_files_that_cannot_be_opened_cost_only_themselves(spoilt):
    folder, root = spoilt
    root.close()
    (folder / "episode_0.hdf5").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5000\n")
    (folder / "._episode_1.hdf5").write_bytes(b"\0\5\x16\7")
    dataset = open_any(folder)
    assert [(note.episodes, "git lfs pull" in note.text) for note in lost(dataset)] == [((0,), True)]
    assert [dataset.number(index) for index in range(len(dataset))] == [1, 2]


def test_without_actions_an_episode_is_video(spoilt):
    folder, root = spoilt
    del root["action"]
    root.close()
    dataset = open_any(folder)
    assert (len(dataset), dataset.episode(1).actions, dataset.action_width) == (3, None, 14)
    assert [(note.episodes, "has no actions" in note.text) for note in dataset.notes if note.kind == "video only"] == [
        ((1,), True)
    ]


def test_what_other_recorders_call_bytes_is_read_and_depth_in_pngs_is_no_view(tmp_path):
    write_aloha(tmp_path / "towels", [stored(0)], "PNG")
    depth = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(depth, "PNG")
    with h5py.File(tmp_path / "towels" / "episode_0.hdf5", "r+") as root:
        rows = [bytes(row).rstrip(b"\0") for row in root["observations/images/cam_high"]]
        ragged = root.create_dataset("observations/images/ragged", STEPS, h5py.vlen_dtype(np.uint8))
        for step, row in enumerate(rows):
            ragged[step] = np.frombuffer(row, np.uint8)
        root["observations/images/text"] = np.array(rows)
        root["observations/images/depth"] = np.tile(np.frombuffer(depth.getvalue(), np.uint8), (STEPS, 1))
    dataset = open_any(tmp_path / "towels")
    assert set(dataset.views) == {*VIEWS, "ragged", "text"}
    for view in ("ragged", "text"):
        np.testing.assert_array_equal(dataset.episode(0).views[view], numbered(0, STEPS))


def test_it_is_told_from_robomimic_by_the_first_file_that_can_be_opened(tmp_path):
    write_isaac(tmp_path / "isaac" / "demo.hdf5")
    write_aloha(tmp_path / "towels", [stored(0), stored(1)])
    for folder, name in ((tmp_path / "isaac", "robomimic"), (tmp_path / "towels", "aloha")):
        (folder / "a.hdf5").write_bytes(b"damaged")
        assert guess_format(folder) == name
    with h5py.File(tmp_path / "isaac" / "demo.hdf5", "r+") as root:
        root["observations"] = np.zeros(3)
    assert guess_format(tmp_path / "isaac") == "robomimic"
    assert not aloha.recognises(tmp_path / "missing") and not robomimic.recognises(tmp_path / "towels")
