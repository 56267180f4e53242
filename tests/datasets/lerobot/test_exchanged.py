"""Files that stand in each other's place, or whose place something else has taken: told, never read as another's."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.datasets.lerobot.old_format import to_old
from tests.datasets.lerobot.test_footage import seen
from tests.datasets.lerobot.test_footage import write as write_numbered
from tests.datasets.lerobot.test_foreign import packed, pictures, set_column, with_pictures
from tests.datasets.lerobot.test_lerobot import DATA, EPISODES, edit, episode, write

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.errors import UserError

LENGTHS = (12, 14, 12)


@pytest.fixture
def old(tmp_path):
    """v2.1: episodes whose frames say which they are."""
    return to_old(write_numbered(tmp_path / "new", LENGTHS), tmp_path / "old", chunk=9)


def exchange(one: Path, other: Path) -> None:
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def sound(dataset):
    """Number -> whether frames and actions are the episode's own."""
    found = {}
    for index in range(len(dataset)):
        number, read = dataset.number(index), dataset.episode(index)
        own = seen(read) == [(number, step) for step in range(LENGTHS[number])]
        found[number] = own and bool((read.actions[:, 0].astype(int) == number).all())
    return found


def lost(dataset):
    return {number for note in dataset.notes if note.kind == "left out" for number in note.episodes}


def test_videos_whose_lengths_are_each_others_were_exchanged(old):
    folder = old / "videos/chunk-000/observation.images.top"
    exchange(folder / "episode_000000.mp4", folder / "episode_000001.mp4")
    dataset = open_dataset(old)
    assert sound(dataset) == {2: True}
    assert lost(dataset) == {0, 1}
    assert any("their numbers of frames are each other's; they were exchanged" in note.text for note in dataset.notes)


def test_one_video_with_a_frame_too_few_is_still_its_own(old):
    other = to_old(write_numbered(old.parent / "short", (11, 14, 12)), old.parent / "old_short", chunk=9)
    place = "videos/chunk-000/observation.images.top/episode_000000.mp4"
    (other / place).replace(old / place)
    dataset = open_dataset(old)
    assert seen(dataset.episode(0)) == [(0, step) for step in range(11)]
    assert lost(dataset) == set()


def test_rows_that_are_each_others_by_their_number_are_left_out(old):
    exchange(*(old / f"data/chunk-000/episode_00000{number}.parquet" for number in (0, 2)))
    dataset = open_dataset(old)
    assert sound(dataset) == {1: True}
    assert lost(dataset) == {0, 2}


def test_a_column_of_pictures_that_holds_none_costs_no_more_than_its_episodes(tmp_path):
    path = with_pictures(write(tmp_path / "d", [episode(6)]), packed(pictures(6)))
    edit(path / DATA, lambda table: set_column(table, "image", [b"x"] * 6, pa.binary()))
    with pytest.raises(UserError, match="image of episode 0"):
        open_dataset(path).episode(0)


def test_a_view_that_is_described_no_more_is_told(tmp_path):
    path = write(tmp_path / "d", [episode(6)])
    info = json.loads((path / spec.INFO).read_text(encoding="utf-8"))
    del info["features"]["observation.images.wrist"]
    (path / spec.INFO).write_text(json.dumps(info), encoding="utf-8")
    dataset = open_dataset(path)
    assert dataset.views == ("top",)
    (told,) = (note.text for note in dataset.notes if note.kind == "left out")
    assert "observation.images.wrist" in told and "does not describe" in told


def test_pictures_in_the_rows_that_are_described_no_more_are_told(tmp_path):
    path = write(tmp_path / "d", [episode(6)])
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    edit(path / DATA, lambda table: set_column(table, "image", packed(pictures(6)), kind))
    (told,) = (note.text for note in open_dataset(path).notes if note.kind == "left out")
    assert "does not describe the column image" in told


def test_a_folder_in_the_place_of_a_list_costs_nothing_that_the_rows_say(old):
    (old / "meta/tasks.jsonl").unlink()
    (old / "meta/tasks.jsonl").mkdir()
    dataset = open_dataset(old)
    assert sound(dataset) == {0: True, 1: True, 2: True}
    assert any(f"{old / 'meta/tasks.jsonl'}: Is a directory; a file is needed there" in str(n) for n in dataset.notes)


def test_names_that_are_no_utf_8_are_told_like_others(old):
    file = old / "videos/chunk-000/observation.images.top/episode_000001.mp4"
    file.rename(file.with_name(os.fsdecode(b"episode_\xff.mp4")))
    dataset = open_dataset(old)
    assert sound(dataset) == {0: True, 2: True}
    assert lost(dataset) == {1}


def test_what_is_not_said_of_videos_names_their_folder(tmp_path):
    path = write(tmp_path / "d", [episode(6), episode(8, 1)])
    place = "videos/observation.images.top/file_index"
    edit(path / EPISODES, lambda table: set_column(table, place, [0, None]))
    edit(path / EPISODES, lambda table: set_column(table, "length", [6, 7]))
    dataset = open_dataset(path)
    for note in dataset.notes:
        assert str(path) in str(note)
    np.testing.assert_array_equal(dataset.episode(0).actions, episode(6).actions)
