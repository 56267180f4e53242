"""Masks of robomimic: which demonstrations are read, and what is said of the others."""

import h5py
import numpy as np
import pytest
from tests.datasets.hdf5 import numbered, write_isaac

from videopolicy.datasets.formats import open_any
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError


def masked(file, **masks):
    write_isaac(file, count=6)
    with h5py.File(file, "r+") as root:
        for name, members in masks.items():
            root[f"mask/{name}"] = np.array([f"demo_{number}".encode() for number in members])
    return file


def read(dataset):
    """The numbers of what is read, after a look at the frames."""
    numbers = [dataset.number(index) for index in range(len(dataset))]
    for index, number in enumerate(numbers):
        frames = dataset.episode(index).views["wrist_cam"]
        np.testing.assert_array_equal(frames, numbered(number % 6, len(frames), 1))
    return numbers


def said(dataset):
    return [str(note) for note in dataset.notes if "mask" in note.text.split(": ")[1]]


def test_validation_is_held_back_and_said_so(tmp_path):
    file = masked(tmp_path / "demo.hdf5", train=[0, 1, 2], valid=[3, 5], few=[1])
    dataset = open_any(file, reading=Reading(strict=True))
    assert read(dataset) == [0, 1, 2]
    assert said(dataset) == [
        f"{file}: mask valid (2 demonstrations) is not read, as robomimic keeps it for validation; --mask valid "
        "reads it (episodes 3, 5)",
        f"{file}: what is not in mask train, nor in mask valid, is not read (episode 4)",
        f"{file}: other masks: few (1 demonstration); --mask NAME reads one alone",
    ]


def test_a_mask_that_is_named_is_read_alone(tmp_path):
    file = masked(tmp_path / "demo.hdf5", train=[0, 1, 2], valid=[3, 5], few=[4, 1])
    for mask, members in (("few", [1, 4]), ("valid", [3, 5])):
        dataset = open_any(file, reading=Reading(mask=mask))
        assert read(dataset) == members
        rest = ", ".join({"few": ["0", "2-3", "5"], "valid": ["0-2", "4"]}[mask])
        assert f"{file}: what is not in mask {mask} is not read (episodes {rest})" in said(dataset)
    assert len({open_any(file, reading=Reading(mask=mask)).fingerprint for mask in ("few", "valid", "train")}) == 3


def test_without_the_two_masks_of_robomimic_all_is_read_and_the_masks_are_listed(tmp_path):
    file = masked(tmp_path / "demo.hdf5", valid=[3], few=[1, 4])
    dataset = open_any(file)
    assert read(dataset) == [*range(6)]
    masks = "few (2 demonstrations) and valid (1 demonstration); --mask NAME reads one alone"
    assert said(dataset) == [f"{file}: all is read, whatever its mask; masks: {masks}"]


def test_an_unknown_mask_is_refused_with_those_that_there_are(tmp_path):
    file = masked(tmp_path / "demo.hdf5", train=[0, 1], few=[1])
    with pytest.raises(UserError, match=r"no mask 'trian'; there are few \(1 .*\) and train \(2 demonstrations\)"):
        open_any(file, reading=Reading(mask="trian"))
    with pytest.raises(UserError, match="no mask 'train'; there are none at all"):
        open_any(masked(tmp_path / "none" / "demo.hdf5"), reading=Reading(mask="train"))


def test_each_file_of_a_folder_has_its_own(tmp_path):
    masked(tmp_path / "a.hdf5", train=[0, 1, 2], valid=[3, 5])
    masked(tmp_path / "b.hdf5", few=[2])
    masked(tmp_path / "c.hdf5", train=[5], valid=[4])
    assert read(open_any(tmp_path)) == [0, 1, 2, *range(6, 12), 17]
    assert read(open_any(tmp_path, reading=Reading(mask="train"))) == [0, 1, 2, 17]
    dataset = open_any(tmp_path, reading=Reading(mask="few"))
    assert read(dataset) == [8]
    assert f"{tmp_path}: what is not in mask few is not read (episodes 0-7, 9-17)" in said(dataset)


def test_what_is_wrong_with_a_mask_is_said(tmp_path):
    file = masked(tmp_path / "demo.hdf5", few=[1, 9], other=[7])
    with h5py.File(file, "r+") as root:
        root["mask/numbers"] = np.arange(3)
    dataset = open_any(file, reading=Reading(mask="few"))
    assert read(dataset) == [1]
    kinds = {note.text: note.kind for note in dataset.notes}
    assert kinds[f"{file}: mask few names demo_9, which it does not hold"] == "left out"
    assert kinds[f"{file}: mask other names demo_7, which it does not hold"] == "unused"
    assert any("mask numbers is not readable (it should be a list of names)" in text for text in kinds)
    with h5py.File(file, "r+") as root:
        del root["data/demo_1"], root["mask/numbers"]
    with pytest.raises(UserError, match="mask few names demo_1 and demo_9, which it does not hold"):
        open_any(file, reading=Reading(mask="few"))
