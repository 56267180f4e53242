import json
from types import SimpleNamespace

import numpy as np
import pytest

from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.statistics import CELLS, LOOKED_AT, FrameStatistics, Statistics, first_frames
from videopolicy.errors import UserError

RANGES = Normalizer((-1.0, 0.5), (1.0, 0.75))


def plain(*colours, size=32):
    """Frames, each of one colour (red, green, blue)."""
    return np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (len(colours), size, size, 3))


def test_mean_and_deviation_are_of_each_place_and_colour():
    frames = plain((10, 20, 30), (30, 20, 130)).copy()
    frames[:, :16] = 200
    found = FrameStatistics.of(frames)
    mean, deviation = found.arrays()
    assert found.count == 2 and mean.shape == deviation.shape == (CELLS, CELLS, 3)
    assert (mean[:8] == 200).all() and (deviation[:8] == 0).all()
    assert (mean[8:] == [20, 20, 80]).all() and (deviation[8:] == [10, 0, 50]).all()


def test_frames_of_any_size_are_fitted():
    wide = np.zeros((1, 20, 40, 3), np.uint8)
    wide[:, :, 10:30] = 90
    assert set(FrameStatistics.of(wide).mean) == {90.0}


def test_what_is_written_comes_back_equal():
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    for actions in (RANGES, None):
        known = Statistics(actions, {"top": FrameStatistics.of(frames)})
        assert Statistics.from_json(known.to_json()) == known


def test_ranges_alone_as_checkpoints_had_them_are_read():
    assert Statistics.from_json(RANGES.to_json()) == Statistics(RANGES)
    assert Statistics.from_json("null") == Statistics()


GREY = {"count": 9, "mean": [127.0] * CELLS * CELLS * 3, "deviation": [0] * CELLS * CELLS * 3}


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (GREY | {"mean": [1.0]}, "mean has 1 numbers; it takes 768"),
        (GREY | {"deviation": [-1.0] * 768}, r"deviation\[0\] is -1"),
        (GREY | {"mean": [256] * 768}, r"mean\[0\] is 256"),
        (GREY | {"mean": [float("nan")] * 768}, r"mean\[0\] is nan"),
        (GREY | {"count": 0}, "count is 0"),
        (GREY | {"median": 3}, "no field 'median'"),
        ([], r"frames.top is \[\]"),
    ],
)
def test_what_no_frame_can_look_like_is_refused_by_its_place(view, message):
    assert Statistics.from_json(json.dumps({"frames": {"top": GREY}})).frames["top"].count == 9
    with pytest.raises(UserError, match=message):
        Statistics.from_json(json.dumps({"frames": {"top": view}}))


class Numbered:
    """A data set whose episode n begins with a frame of colour n + first, and goes on in white."""

    def __init__(self, first):
        self._first = first

    def episode(self, index, views, start, stop):
        assert (start, stop) == (0, 1)
        return SimpleNamespace(views={view: plain((index + self._first,) * 3) for view in views})


def test_the_first_frames_of_the_episodes_that_are_learnt_from_are_looked_at():
    found = first_frames([Numbered(0), Numbered(100)], [(0, 3), (1, 4), (1, 6)], ("top", "close"))
    assert list(found) == ["top", "close"]
    assert found["close"].count == 3 and set(found["close"].mean) == {71.0}


def test_of_many_episodes_some_all_over_them_are_looked_at():
    found = first_frames([Numbered(0)], [(0, number) for number in range(201)], ("top",))["top"]
    assert found.count == LOOKED_AT and set(found.mean) == {100.0} and 57 < found.deviation[0] < 60
