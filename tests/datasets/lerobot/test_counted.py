"""Columns and files that are not read, but by which others find a step: where they are wrong, it is told."""

import numpy as np
import pyarrow as pa
import pytest
from tests.datasets.lerobot.test_footage import FPS, LENGTHS, VIDEO, assert_right, frames, path  # noqa: F401
from tests.datasets.lerobot.test_foreign import set_column
from tests.datasets.lerobot.test_lerobot import DATA, edit

from videopolicy.datasets.conversion.convert import convert
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.media import Encoder

STEPS = np.concatenate([np.arange(length) for length in LENGTHS])
ROWS = np.arange(sum(LENGTHS))


@pytest.mark.parametrize(
    ("name", "values", "message", "episodes"),
    [
        ("timestamp", STEPS / FPS * 1.045, "up to 0.0315 s off", (2,)),
        ("timestamp", ROWS / FPS, "up to 1.2 s off", (1, 2)),
        ("timestamp", np.where(ROWS == 30, None, STEPS / FPS), "missing or infinite", (0, 1, 2)),
        ("index", STEPS, "does not count", (1, 2)),
        ("index", ROWS + (ROWS >= 18), "does not count", (1, 2)),
        ("index", ROWS + 7, "does not count", (0, 1, 2)),
        ("index", [f"{row}" for row in ROWS], "holds no numbers", (0, 1, 2)),
    ],
)
def test_steps_are_counted_and_what_says_otherwise_is_told(path, name, values, message, episodes):  # noqa: F811
    kind = pa.array(list(values)).type
    edit(path / DATA, lambda table: set_column(table, name, list(values), kind))
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1, 2))
    (note,) = dataset.notes
    assert (note.kind, note.episodes) == ("mended", episodes) and message in note.text


def test_time_stamps_that_name_the_same_steps_are_no_matter(path):  # noqa: F811
    edit(path / DATA, lambda table: set_column(table, "timestamp", list(STEPS / FPS + 0.4 / FPS)))
    assert open_dataset(path).notes == ()


def test_a_repaired_set_counts_its_steps_again(path, tmp_path):  # noqa: F811
    edit(path / DATA, lambda table: set_column(set_column(table, "index", list(STEPS)), "timestamp", list(ROWS / FPS)))
    outcome = convert(ConversionSource(path), tmp_path / "mended", 1)
    assert [note.kind for note in outcome.notes] == ["mended", "mended"]
    mended = open_dataset(tmp_path / "mended")
    assert [note.kind for note in mended.notes] == ["converted", "converted"]
    assert_right(mended, (0, 1, 2))
    np.testing.assert_allclose(np.concatenate([mended.timestamps(i) for i in range(3)]), STEPS / FPS, atol=1e-6)


def test_missing_statistics_are_told(path, tmp_path):  # noqa: F811
    (path / spec.STATS).unlink()
    dataset = open_dataset(path)
    (note,) = dataset.notes
    assert note.kind == "assumed" and str(path / spec.STATS) in note.text
    convert(ConversionSource(path), tmp_path / "mended", 1)
    written = open_dataset(tmp_path / "mended")
    assert {note.kind for note in written.notes} <= {"converted"}
    np.testing.assert_allclose(written.declared_range(), [[0, 0], [2.5, 2.5]])


@pytest.mark.parametrize(("rate", "told"), [(20000 / 1001, True), (FPS, False)])
def test_a_video_of_another_clock_is_told(path, rate, told):  # noqa: F811
    with Encoder(path / VIDEO, rate, full_colour=True) as encoder:
        for number, length in enumerate(LENGTHS):
            encoder.write(frames(number, length))
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1, 2))
    assert [note.kind for note in dataset.notes] == ["mended"] * told
    assert all("19.98 frames a second" in note.text for note in dataset.notes)
