"""Which columns are actions, states and views, where a description and the rows differ or leave it open."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.datasets.lerobot.test_foreign import RECORDED, features, packed, pictures, set_column
from tests.datasets.lerobot.test_lerobot import DATA, edit, write

from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "datasets", RECORDED)


def test_a_column_that_is_described_and_not_there_is_named(path):
    edit(path / DATA, lambda t: t.rename_columns([n.replace("action", "other") for n in t.column_names]))
    dataset = open_dataset(path)
    assert dataset.action_width is None
    assert [note.kind for note in dataset.notes if "describes action, but" in note.text] == ["left out"]


def test_a_column_that_nobody_describes_is_read_and_told(path):
    features(path, lambda entries: entries.pop("action"))
    dataset = open_dataset(path)
    np.testing.assert_array_equal(dataset.episode(0).actions, RECORDED[0].actions)
    assert "does not describe the column action; it is read as 4 numbers a step" in str(dataset.notes[0])


def test_a_width_that_is_not_that_of_the_rows_is_told(path):
    features(path, lambda entries: entries["action"].update(shape=[9]))
    dataset = open_dataset(path)
    np.testing.assert_array_equal(dataset.episode(0).actions, RECORDED[0].actions)
    assert "says that action is 9 wide, but a row holds 4 numbers" in str(dataset.notes[0])


def split_columns(path, name, parts):
    """The same numbers in several columns."""
    table = pq.read_table(path / DATA)
    values = np.array(table[name].to_pylist(), np.float32)
    table = table.drop_columns([name])
    for part, (start, stop) in parts.items():
        width = stop - start
        column = pa.array(values[:, start]) if width == 1 else pa.array(values[:, start:stop].tolist())
        table = table.append_column(part, column)
    pq.write_table(table, path / DATA)

    def change(entries):
        del entries[name]
        for part, (start, stop) in parts.items():
            entries[part] = {"dtype": "float32", "shape": [stop - start], "names": None}

    features(path, change)


def test_actions_in_several_columns_are_named_and_joined_in_the_order_that_is_said(path):
    split_columns(path, "action", {"action.joint": (0, 3), "action.gripper": (3, 4)})
    split_columns(path, "observation.state", {"observation.state.a": (0, 2), "observation.state.b": (2, 4)})
    silent = open_dataset(path)
    assert (silent.action_width, silent.state_width) == (None, None)
    assert [(note.kind, "--action-columns action.joint action.gripper" in note.text) for note in silent.notes] == [
        ("left out", True),
        ("unused", False),
    ]
    assert "action.joint (3), action.gripper (1)" in silent.notes[0].text
    columns = Reading(("action.gripper", "action.joint"), ("observation.state.a", "observation.state.b"))
    dataset = open_dataset(path, columns)
    assert (dataset.action_width, dataset.state_width, dataset.notes) == (4, 4, ())
    for index, made in enumerate(RECORDED):
        read = dataset.episode(index)
        np.testing.assert_array_equal(read.actions, made.actions[:, [3, 0, 1, 2]])
        np.testing.assert_array_equal(read.states, made.states)
    assert dataset.fingerprint != silent.fingerprint
    with pytest.raises(UserError, match=r"no column of numbers 'action\.arm'; .*action\.gripper"):
        open_dataset(path, Reading(("action.arm",)))


def test_columns_that_nothing_needs_are_named(path):
    edit(path / DATA, lambda t: t.append_column("observation.effort", t["observation.state"]))
    features(path, lambda e: e.update({"observation.effort": {"dtype": "float32", "shape": [4], "names": None}}))
    (note,) = open_dataset(path).notes
    assert note.kind == "unused"
    assert note.text.endswith("columns that are neither action nor state: observation.effort (4)")


def test_an_unmarked_depth_camera_is_left_out_and_the_rest_is_read(path):
    deep = packed(pictures(28)[..., 0].astype(np.uint16) * 13, mode="I;16")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    edit(path / DATA, lambda t: set_column(t, "observation.images.depth", deep, kind))
    entry = {"dtype": "image", "shape": [24, 32, 1], "names": None}
    features(path, lambda entries: entries.update({"observation.images.depth": entry}))
    dataset = open_dataset(path)
    assert dataset.views == ("top", "wrist")
    assert [(note.kind, "observation.images.depth" in note.text) for note in dataset.notes] == [("unused", True)]
    np.testing.assert_array_equal(dataset.episode(2).actions, RECORDED[2].actions)
