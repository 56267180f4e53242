"""What a run says of values far outside the usual range, on the data that it reads."""

from dataclasses import replace

import numpy as np
import pytest
from tests.small import MODEL, SIZE, TRAINING

from videopolicy.datasets.formats import open_any
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.mixture import Source
from videopolicy.training.data_summary import summarize
from videopolicy.training.prepare import prepare
from videopolicy.types import Episode

EPISODES, STEPS = 4, 60


def told(tmp_path, *, spikes, **changes):
    """The lines about a set whose second dimension has so many spikes, in episodes 1 and 2."""
    actions = np.stack([np.sin(np.arange(240) / 9), np.cos(np.arange(240) / 7)], 1).astype(np.float32)
    steps = 70 + 5 * np.arange(spikes)
    actions[steps, 1] = 1000
    frames = np.zeros((STEPS, SIZE, SIZE, 3), np.uint8)
    with Writer(tmp_path / "data", 20, ("top",)) as writer:
        for part in np.split(actions, EPISODES):
            writer.add(Episode({"top": frames}, "go", 20, part))
    source = Source(open_any(tmp_path / "data"), "data")
    _, clips = prepare([source], MODEL, replace(TRAINING, **changes), tmp_path / "run")
    return summarize([source], clips, None, 0)[1:]


def test_a_clean_set_is_told_nothing_of(tmp_path):
    assert told(tmp_path, spikes=0) == []


def test_a_spike_is_told_with_what_it_leaves_of_the_range_and_a_remedy(tmp_path):
    assert told(tmp_path, spikes=1) == [
        "  warning: dimension 1 of the actions: 1 value is far outside the usual range, -1 to 1: 1000 (episode 1); "
        "the usual range is 0.2 % of what is scaled to [-1, 1]: remove wrong episodes, or train with "
        "--normalize quantile"
    ]


def test_quantiles_are_no_remedy_against_more_than_they_leave_out(tmp_path):
    (line,) = told(tmp_path, spikes=14)
    assert "14 values are far outside the usual range, -1 to 1, as far as 1000 (episodes 1-2)" in line
    assert line.endswith("the usual range is 0.2 % of what is scaled to [-1, 1]")


def test_by_quantiles_the_usual_range_is_learnt_and_what_is_clipped_is_told(tmp_path):
    warning, how, clipped = told(tmp_path, spikes=1, normalize="quantile")
    assert warning.endswith("; the usual range is 100 % of what is scaled to [-1, 1]")
    assert how == "actions are clipped to their 1% and 99% quantiles"
    assert clipped == "  dimension 1 reaches from -1 to 1000, and is clipped to -1 to 1"


@pytest.mark.parametrize("method", ["minmax", "quantile"])
def test_what_is_learnt_of_a_set_with_a_spike(tmp_path, method):
    actions = np.linspace(-1, 1, 240, dtype=np.float32)[:, None].copy()
    actions[57] = 1000
    with Writer(tmp_path / "data", 20, ("top",)) as writer:
        for part in np.split(actions, EPISODES):
            writer.add(Episode({"top": np.zeros((STEPS, SIZE, SIZE, 3), np.uint8)}, "go", 20, part))
    _, clips = prepare(open_any(tmp_path / "data"), MODEL, replace(TRAINING, normalize=method), tmp_path / "run")
    learnt = clips.batch(np.arange(len(clips)), None).actions
    shown = np.delete(learnt[:, 0, 0], 57)
    assert learnt.max() == 1 and learnt.min() == -1
    assert np.ptp(shown) == pytest.approx(2 if method == "quantile" else 2 * 2 / 1001, rel=1e-3)
