"""Episodes are appended one by one, and what was finished survives any end."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.appending import Appender
from videopolicy.errors import UserError
from videopolicy.types import Episode

FPS, STEPS = 20.0, 6
# What changes files: a process that is killed is killed at one of them, or between two.
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate")


def episode(number: int, **changes) -> Episode:
    """What it holds tells its number."""
    rng = np.random.default_rng(number)
    frames = {view: np.full((STEPS, 32, 32, 3), 10 * number + 5, np.uint8) for view in ("top", "close")}
    actions, states = (rng.normal(size=(STEPS, width)).astype(np.float32) for width in (2, 3))
    instruction, task = ("reach it", "leave it")[number % 2], f"task-{number % 2}"
    whole = Episode(frames, instruction, FPS, actions, states, task, success=number % 3 == 0, seed=number)
    return replace(whole, **changes)


def appender(path: Path) -> Appender:
    return Appender(path, FPS, ("top", "close"), "other:2", "other:3")


def append(path: Path, numbers) -> None:
    with appender(path) as data:
        for number in numbers:
            data.add(episode(number))


def assert_holds(path: Path, count: int, damaged: bool = False) -> None:
    """Exactly the first episodes, each whole."""
    data = open_dataset(path)
    assert len(data) == count and (damaged or data.notes == ())
    for number in range(count):
        found, expected = data.episode(number), episode(number)
        np.testing.assert_array_equal(found.actions, expected.actions)
        np.testing.assert_array_equal(found.states, expected.states)
        assert found.instruction == expected.instruction
        if not damaged:
            assert (found.task, found.success, found.seed) == (expected.task, expected.success, expected.seed)
        for view, frames in expected.views.items():
            assert np.abs(found.views[view].astype(int) - frames).max() < 8


def test_every_episode_is_there_as_soon_as_it_is_added(tmp_path):
    with appender(tmp_path / "d") as data:
        for number in range(3):
            data.add(episode(number))
            assert_holds(tmp_path / "d", number + 1)
    assert_holds(tmp_path / "d", 3)
    dataset = open_dataset(tmp_path / "d")
    assert (dataset.action_layout, dataset.state_layout) == ("other:2", "other:3")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_the_same_folder_is_gone_on_with(tmp_path):
    for numbers in (range(2), range(2, 3), range(3, 5)):
        append(tmp_path / "d", numbers)
    assert_holds(tmp_path / "d", 5)
    append(tmp_path / "once", range(5))
    for file in ("meta/stats.json", "meta/info.json"):
        one, other = (json.loads((tmp_path / name / file).read_text(encoding="utf-8")) for name in ("d", "once"))
        assert one == other
    with appender(tmp_path / "d") as data:
        assert [entry.seed for entry in data.entries] == [0, 1, 2, 3, 4]


def test_a_data_set_of_none_is_not_made(tmp_path):
    with appender(tmp_path / "d"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_episode_that_does_not_fit_harms_none(tmp_path):
    with appender(tmp_path / "d") as data:
        data.add(episode(0))
        for wrong in ({"fps": 10.0}, {"actions": np.full((STEPS, 2), np.nan, np.float32)}, {"views": {}}):
            with pytest.raises(UserError):
                data.add(episode(1, **wrong))
        data.add(episode(1))
    assert_holds(tmp_path / "d", 2)


def test_what_else_is_there_is_refused_and_kept(tmp_path):
    append(tmp_path / "d", range(1))
    for other in (
        Appender(tmp_path / "d", 10.0, ("top", "close"), "other:2", "other:3"),
        Appender(tmp_path / "d", FPS, ("top",), "other:2", "other:3"),
    ):
        with pytest.raises(UserError, match="holds episodes with another"), other:
            pass
    shutil.rmtree(tmp_path / "d" / ".shards")
    with pytest.raises(UserError, match="exists and is not empty"), appender(tmp_path / "d"):
        pass
    assert_holds(tmp_path / "d", 1)
    with appender(tmp_path / "e"), pytest.raises(UserError, match="being written"):
        in_another_process(f"append(Path({str(tmp_path / 'e')!r}), [0])")


def in_another_process(code: str) -> str:
    """What it prints; an error of its is one here."""
    code = f"from pathlib import Path\nfrom tests.datasets.lerobot.test_appending import *\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(done.stderr)
    return done.stdout


def killed_at(path: Path, change: int, told: int) -> bool:
    """Appends two episodes in a process that is killed at its n-th change of files; whether it was."""
    pid = os.fork()
    if not pid:
        left = [change]

        def hook(event: str, arguments: tuple) -> None:
            if event in CHANGES and str(path) in str(arguments):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        with appender(path) as data:
            for number in range(2):
                data.add(episode(number))
                os.write(told, b".")
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def kill_everywhere(folder: Path, every: int) -> int:
    """Kills at every n-th change of files, looks at what is there, and goes on with it; returns how often."""
    for change in range(0, 10_000, every):
        path = folder / str(change)
        reading, writing = os.pipe()
        killed = killed_at(path, change, writing)
        os.close(writing)
        added = len(os.read(reading, 10))
        os.close(reading)
        readable = len(open_dataset(path)) if (path / "meta/info.json").exists() else 0
        # One whose end was not told may be whole, too.
        assert readable in (added, added + 1) and (killed or added == 2), (change, readable, added)
        if readable:
            assert_holds(path, readable, damaged=True)
        with appender(path) as data:
            there = len(data.entries)
            assert readable <= there <= added + 1
            data.add(episode(there))
        assert_holds(path, there + 1)
        assert not [*path.rglob("*.partial")]
        if not killed:
            return change // every
    raise AssertionError("it was never done")


@pytest.mark.parametrize("every", [37, pytest.param(5, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_at_any_moment_leaves_every_finished_episode(tmp_path, every):
    # In a process without threads, as it forks.
    kills = int(in_another_process(f"print(kill_everywhere(Path({str(tmp_path)!r}), {every}))"))
    assert kills * every > 60
