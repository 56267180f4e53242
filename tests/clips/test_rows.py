import errno
import os

import numpy as np
import pytest

from videopolicy.clips.rows import Rows
from videopolicy.errors import UserError


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(2, 7, 3, 4)).astype(np.float16)


def test_rows_are_those_of_the_array(values, tmp_path):
    np.save(tmp_path / "array.npy", values)
    rows = Rows(tmp_path / "array.npy", leading=2)
    wanted = np.array([[0, 13], [7, 2]])
    np.testing.assert_array_equal(rows.read(wanted), values.reshape(14, 3, 4)[wanted])
    np.testing.assert_array_equal(Rows(tmp_path / "array.npy").read(np.array([1])), values[1:])


def test_what_is_written_is_what_numpy_reads(values, tmp_path):
    rows = Rows.create(tmp_path / "array.npy", np.float16, (2, 7), (3, 4))
    rows.write(7, values[1])
    rows.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "array.npy"), np.stack([np.zeros_like(values[0]), values[1]]))
    rows.close()
    rows = Rows(tmp_path / "array.npy", 2, writable=True)
    rows.write(0, values[0])
    np.testing.assert_array_equal(np.load(tmp_path / "array.npy"), values)


@pytest.mark.parametrize("row", [-1, 14])
def test_a_row_that_is_not_there_is_refused(values, tmp_path, row):
    np.save(tmp_path / "array.npy", values)
    with pytest.raises(IndexError):
        Rows(tmp_path / "array.npy", leading=2).read(np.array([row]))


def test_a_file_that_is_cut_short_while_it_is_read_is_refused_and_ends_nothing(values, tmp_path):
    np.save(tmp_path / "array.npy", values)
    rows = Rows(tmp_path / "array.npy", leading=2)
    with (tmp_path / "array.npy").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(UserError, match=r"array\.npy: cut short"):
        rows.read(np.array([13]))


def test_where_room_cannot_be_taken_beforehand_rows_are_written_all_the_same(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.EINVAL, "this file system takes no room beforehand")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    rows = Rows.create(tmp_path / "array.npy", np.float32, (2,), (1,))
    rows.write(1, np.ones((1, 1), np.float32))
    assert np.load(tmp_path / "array.npy").tolist() == [[0], [1]]
