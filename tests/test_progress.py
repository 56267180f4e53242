import gc
import io
import sys
from itertools import pairwise

import pytest

from videopolicy import progress
from videopolicy.progress import LOG_EVERY, progress_bar, say


class Clock:
    """Seconds that pass when they are told to, for tqdm as for ours."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    monotonic = time


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr("tqdm.std.time", clock.time)
    return clock


def log_of(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_log_gets_a_whole_line_in_ten_seconds_and_a_last_one(monkeypatch, clock):
    log = log_of(monkeypatch, io.StringIO())
    with progress_bar(total=65, desc="work", unit="piece") as bar:
        for number in range(65):
            clock.now += 1
            bar.set_postfix_str(f"done {number + 1}")
            bar.update()
            say(f"line {number}") if number == 30 else None
    lines = log.getvalue().splitlines()
    assert "\r" not in log.getvalue()
    assert lines.count("line 30") == 1
    done = [int(line.partition("/")[0].rpartition(" ")[2]) for line in lines if "piece" in line]
    assert len(done) == 65 // LOG_EVERY + 1
    assert done[-1] == 65
    assert all(after - before >= LOG_EVERY for before, after in pairwise(done[:-1]))


def test_what_is_done_sooner_says_one_line(monkeypatch, clock):
    log = log_of(monkeypatch, io.StringIO())
    assert list(progress_bar(range(3), desc="work")) == [0, 1, 2]
    assert log.getvalue().count("\n") == 1
    assert "3/3" in log.getvalue()


def test_a_bar_that_should_not_stay_says_nothing_at_its_end(monkeypatch, clock):
    log = log_of(monkeypatch, io.StringIO())
    for _ in progress_bar(range(25), leave=False):
        clock.now += 1
    assert log.getvalue().count("\n") == 2


def test_a_disabled_bar_is_silent(monkeypatch, clock):
    log = log_of(monkeypatch, io.StringIO())
    with progress_bar(total=2, disable=True) as bar:
        clock.now += 100
        bar.update()
    assert log.getvalue() == ""


def test_on_a_terminal_the_bar_moves_in_its_place(monkeypatch, clock):
    terminal = log_of(monkeypatch, Terminal())
    for _ in progress_bar(range(20)):
        clock.now += 1
    assert terminal.getvalue().count("\r") >= 20
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_whose_building_is_interrupted_has_nothing_to_close(monkeypatch, terminal):
    log_of(monkeypatch, Terminal() if terminal else io.StringIO())

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("videopolicy.progress.tqdm.__init__", interrupted)
    said = []
    monkeypatch.setattr("sys.unraisablehook", said.append)
    with pytest.raises(KeyboardInterrupt):
        progress_bar(range(3))
    gc.collect()
    assert not said
