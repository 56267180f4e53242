"""Training on data of which an episode cannot be read: it goes on without, says so, and resumes with the same ones."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.small import MODEL, SIZE, TRAINING, write_data

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.mixture import open_sources
from videopolicy.datasets.reading import Reading
from videopolicy.datasets.transforms.readable import Readable, find_lost
from videopolicy.errors import UserError
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
    with pytest.raises(UserError, match="none of its 4 episodes can be read: frames of view 'top'"):
        Readable(dataset, lost)


def test_training_says_how_many_it_uses_and_goes_on_with_the_same(data, tmp_path, capsys):
    spoil(data, 0)
    train(data, MODEL, TRAINING, tmp_path / "run")
    said = capsys.readouterr().out
    assert "dots: 2 episodes with actions" in said and "held out, to measure on: 1 of 3 episodes" in said
    assert "3 of 4 episodes are used, 1 left out:" in said
    assert f"left out: {data}/data/chunk-000/file-000.parquet: action of episode 0, step 0, is NaN" in said
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
