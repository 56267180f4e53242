"""Training on data of which an episode cannot be read: it goes on without, says so, and resumes with the same ones."""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.small import MODEL, SIZE, TRAINING, write_data

from videopolicy.clips.decoding import Block, Decoding, decode
from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.mixture import open_sources
from videopolicy.datasets.reading import Reading
from videopolicy.datasets.transforms.base import Derived
from videopolicy.datasets.transforms.readable import Checked, Readable, UnreadableError, find_lost
from videopolicy.errors import UserError
from videopolicy.training import prepare as preparing
from videopolicy.training.prepare import prepare
from videopolicy.training.run import train


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "dots", episodes=4)


def spoil(path, *episodes):
    """Makes an action of each of these no number."""
    file = path / spec.DATA.format(**spec.place(0))
    table = pq.read_table(file)
    values = table["action"].to_pylist()
    for episode in episodes:
        values[table["episode_index"].to_pylist().index(episode)][0] = float("nan")
    column = pa.array(values, table.schema.field("action").type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), file)


def test_a_damaged_episode_is_left_out_and_keeps_its_number(data):
    spoil(data, 0, 2)
    dataset = open_dataset(data)
    told = []
    lost = find_lost(dataset, ("top",), SIZE, told.append)
    assert sorted(lost) == [0, 2] and sum(told) == sum(map(dataset.length, range(4)))
    rest = Readable(dataset, lost)
    assert [rest.number(index) for index in range(len(rest))] == [1, 3]
    np.testing.assert_array_equal(rest.episode(1).actions, dataset.episode(3).actions)
    assert rest.length(1) == dataset.length(3)
    (note,) = rest.notes
    assert note.kind == "left out" and note.episodes == (0, 2) and "NaN or infinite at step 0 of episode 0" in note.text
    assert rest.fingerprint != dataset.fingerprint


def test_frames_of_another_size_cost_their_episode(data):
    dataset = open_dataset(data)
    lost = find_lost(dataset, ("top",), 64)
    assert sorted(lost) == [0, 1, 2, 3] and "32x32 pixels, that of other episodes 64x64" in lost[0]
    with pytest.raises(UserError, match=r"none of 4 episodes can be read: .*dots: view 'top' has 32x32"):
        Readable(dataset, lost)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_read_is_told_from_other_errors(data, workers):
    spoil(data, 1)
    checked = Checked(open_dataset(data), SIZE)
    assert checked.fingerprint == open_dataset(data).fingerprint
    decoding, whole = Decoding(checked, ("top",)), [Block(index, 0, checked.length(index)) for index in range(2)]
    with (
        closing(decode(decoding, whole, workers)) as decoded,
        pytest.raises(UnreadableError, match="NaN or infinite at step 0 of episode 1"),
    ):
        list(decoded)


class Counting(Derived):
    """Counts how often the frames of each step are read."""

    def __init__(self, dataset):
        super().__init__(dataset, None)
        self.reads = np.zeros((len(dataset), max(map(dataset.length, range(len(dataset))))), int)

    def episode(self, index, views=None, start=0, stop=None):
        if views is None or views:
            self.reads[index, start : self.length(index) if stop is None else stop] += 1
        return super().episode(index, views, start, stop)


def test_sound_data_are_decoded_once(data, tmp_path, monkeypatch):
    # Besides, latents are fitted to some episodes, and the model card tells of first frames.
    monkeypatch.setattr(preparing, "FITTED", 1)
    dataset = Counting(open_dataset(data))
    prepare(dataset, MODEL, TRAINING, tmp_path / "run")
    assert [set(dataset.reads[index, 1 : dataset.length(index)].tolist()) for index in range(1, 4)] == [{1}] * 3


def test_an_episode_that_is_found_damaged_late_leaves_the_same_cache(data, tmp_path):
    spoil(data, 3)
    _, found = prepare(open_dataset(data), MODEL, TRAINING, tmp_path / "found")
    _, known = prepare(Readable(open_dataset(data), {3: "damaged"}), MODEL, TRAINING, tmp_path / "known")
    assert found.episodes.number.tolist() == [0, 1, 2]
    for one, other in zip(found.caches, known.caches, strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.actions, other.actions)


def test_training_says_how_many_it_uses_and_goes_on_with_the_same(data, tmp_path, capsys):
    spoil(data, 0)
    train(data, MODEL, TRAINING, tmp_path / "run")
    said = capsys.readouterr().out
    assert "dots: 2 episodes with actions" in said and "held out, to measure on: 1 of 3 episodes" in said
    assert "3 of 4 episodes are used, 1 left out:" in said
    assert (
        f"left out: {data}/data/chunk-000/file-000.parquet: action has a value that is NaN or infinite at step 0"
        in said
    )
    (kept,) = (tmp_path / "run").glob("unreadable-*.json")
    assert list(json.loads(kept.read_text(encoding="utf-8"))) == ["0"]
    # Mended meanwhile or not: the run has begun without.
    before = kept.read_text(encoding="utf-8")
    train(data, MODEL, replace(TRAINING, steps=6), tmp_path / "run", resume=True)
    assert "3 of 4 episodes are used" in capsys.readouterr().out
    assert kept.read_text(encoding="utf-8") == before


def test_who_wants_all_or_nothing_gets_nothing(data, tmp_path):
    spoil(data, 1)
    sources = open_sources([data], reading=Reading(strict=True))
    with pytest.raises(UserError, match=r"left out: .*NaN or infinite at step 0 of episode 1.*--strict refuses"):
        train(sources, MODEL, TRAINING, tmp_path / "run")


def test_what_is_wrong_at_opening_is_told_by_training_too(data, tmp_path, capsys):
    info = json.loads((data / spec.INFO).read_text(encoding="utf-8"))
    (data / spec.INFO).write_text(json.dumps(info | {"total_episodes": 9}), encoding="utf-8")
    train(data, MODEL, TRAINING, tmp_path / "run")
    assert "mended: " in (said := capsys.readouterr().out) and "says 9 episodes, but there are 4" in said
