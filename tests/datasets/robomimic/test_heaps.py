"""Damage to the parts of an HDF5 file that say where its texts and its pictures are."""

import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

from videopolicy.datasets.hdf5.access import array, opened, rows, text
from videopolicy.datasets.hdf5.heaps import HeapCheckedFile
from videopolicy.errors import UserError

READ = """
import sys
from pathlib import Path
from videopolicy.datasets.hdf5.access import opened, text
with opened(Path(sys.argv[1])) as root:
    text(root, "words")
"""


@pytest.fixture
def file(tmp_path):
    """A file with a text, and two blocks of pictures."""
    with h5py.File(tmp_path / "demo.hdf5", "w") as root:
        root.attrs["words"] = "open the drawer"
        pictures = root.create_dataset("pictures", (8, 4, 4, 3), np.uint8, chunks=(4, 4, 4, 3))
        pictures[:] = np.arange(1, 9, dtype=np.uint8)[:, None, None, None]
    return tmp_path / "demo.hdf5"


def free_space(content):
    """Where the object stands that is the rest of the heap of texts."""
    at = content.index(b"GCOL") + 16
    while int.from_bytes(content[at : at + 2], "little"):
        length = int.from_bytes(content[at + 8 : at + 16], "little")
        at += 16 + -(-length // 8) * 8
    return at


def test_what_is_sound_is_read(file):
    with opened(file) as root:
        assert text(root, "words") == "open the drawer"
        assert rows(array(root, "pictures"), 3, 6)[:, 0, 0, 0].tolist() == [4, 5, 6]


def test_a_heap_of_texts_without_an_end_is_no_hang(file):
    content = bytearray(file.read_bytes())
    at = free_space(content)
    content[at + 8 : at + 16] = bytes(8)
    file.write_bytes(content)
    with HeapCheckedFile(file) as checked, pytest.raises(OSError, match="has no end"):
        checked.readinto(memoryview(bytearray(len(content))))
    command = [sys.executable, "-c", READ, str(file)]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert f"UserError: {file}: is damaged; copy or download it again" in run.stderr


def test_a_part_that_is_stored_for_another_place_is_missing(file):
    content = file.read_bytes()
    second, elsewhere = (struct.pack("<5Q", place, 0, 0, 0, 0) for place in (4, 12))
    assert content.count(second) == 1
    file.write_bytes(content.replace(second, elsewhere))
    with opened(file) as root, pytest.raises(UserError, match="/pictures was not written to its end"):
        rows(array(root, "pictures"), 0, 8)
