"""A cache is the same however it came to be: by how many processes, and how often they were killed on the way."""

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.clips.light import SETTINGS, WINDOW, Deadly, means, window_means
from tests.processes import running
from tests.small import write_data

from videopolicy.clips import building
from videopolicy.clips.cache import build_cache
from videopolicy.clips.decoding import usable_workers
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.errors import UserError
from videopolicy.processors import processors

pytestmark = pytest.mark.slow

BUILDING = ".cache.building"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "dots", episodes=6, steps=12)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The bytes of a cache that one process built at a stretch."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    build_cache(open_dataset(data), folder, means, workers=1, **SETTINGS)
    return contents(folder)


@pytest.fixture(scope="module")
def whole_windows(data, tmp_path_factory):
    """The same of a cache of windows."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    build_cache(open_dataset(data), folder, window_means, workers=1, window=WINDOW, **SETTINGS)
    return contents(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_cache_holds_its_arrays_and_an_index(whole, data):
    assert sorted(whole) == ["actions.npy", "codes.npy", "index.json", "states.npy"]


def test_states_are_kept(data, tmp_path):
    dataset = open_dataset(data)
    cache = build_cache(dataset, tmp_path / "cache", means, workers=1, **SETTINGS)
    states = [dataset.episode(index, ()).states for index in range(len(dataset))]
    np.testing.assert_array_equal(cache.states, np.concatenate(states))


def test_several_processes_build_the_same(data, whole, tmp_path):
    build_cache(open_dataset(data), tmp_path / "cache", means, workers=2, **SETTINGS)
    assert contents(tmp_path / "cache") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_several_processes_build_the_same_windows(data, whole_windows, tmp_path):
    build_cache(open_dataset(data), tmp_path / "cache", window_means, workers=2, window=WINDOW, **SETTINGS)
    assert contents(tmp_path / "cache") == whole_windows


def test_all_but_the_codes_is_the_same_for_frames_and_windows(whole, whole_windows):
    for name in ("actions.npy", "states.npy"):
        assert whole[name] == whole_windows[name]
    first, second = (json.loads(files["index.json"]) for files in (whole, whole_windows))
    assert second["recipe"].pop("offsets") == [2, 4, 6, 8]
    assert first == second


def test_little_data_is_not_worth_a_process():
    assert usable_workers(100) == 1
    assert usable_workers(10**9) == processors()


@contextmanager
def begun(data, folder, kind="frames", *, episodes=2):
    """Another process that builds, has so many episodes done, and is stopped in the middle of the next."""
    done, root = folder.with_name(BUILDING) / building.DONE, Path(__file__).parents[2]
    arguments = ("-m", "tests.clips.light", data, folder, done, kind, str(episodes))
    with running(sys.executable, *arguments, cwd=root) as process:
        how = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert how.si_code == os.CLD_STOPPED, process.communicate()
        yield process


def counted(frames):
    counted.frames += len(frames)
    return means(frames)


def counted_windows(windows):
    counted.frames += len(windows)
    return window_means(windows)


def to_encode(data, first=0):
    """Frames of all episodes from the first on, of two views and two copies."""
    dataset = open_dataset(data)
    return sum(dataset.length(index) for index in range(first, len(dataset))) * 2 * 2


@pytest.mark.parametrize("kind", ["frames", "windows"])
def test_a_build_that_is_killed_goes_on_where_it_was(kind, data, request, tmp_path):
    folder = tmp_path / "cache"
    with begun(data, folder, kind) as process:
        process.kill()
    assert not folder.exists()
    # The kill may also tear what was being written.
    with (tmp_path / BUILDING / building.DONE).open("a", encoding="utf-8") as file:
        file.write('{"length": 1')
    counted.frames = 0
    if kind == "frames":
        build_cache(open_dataset(data), folder, counted, workers=1, **SETTINGS)
        assert contents(folder) == request.getfixturevalue("whole")
    else:
        build_cache(open_dataset(data), folder, counted_windows, workers=1, window=WINDOW, **SETTINGS)
        assert contents(folder) == request.getfixturevalue("whole_windows")
    assert 0 < counted.frames <= to_encode(data, first=2)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_what_was_begun_from_other_settings_is_begun_anew(data, whole, tmp_path):
    with begun(data, tmp_path / "cache") as process:
        process.kill()
    recipe = tmp_path / BUILDING / building.RECIPE
    recipe.write_text(json.dumps(json.loads(recipe.read_text(encoding="utf-8")) | {"key": "another"}), encoding="utf-8")
    build_cache(open_dataset(data), tmp_path / "cache", means, workers=1, **SETTINGS)
    assert contents(tmp_path / "cache") == whole


def test_a_second_builder_is_refused_and_disturbs_nobody(data, whole, tmp_path):
    with begun(data, tmp_path / "cache", episodes=1) as process:
        with pytest.raises(UserError, match=r"cache is being written by `videopolicy train` \(process \d+ on "):
            build_cache(open_dataset(data), tmp_path / "cache", means, workers=1, **SETTINGS)
        process.send_signal(signal.SIGCONT)
        _, told = process.communicate()
    assert process.returncode == 0, told
    assert contents(tmp_path / "cache") == whole


def test_a_worker_that_is_killed_ends_the_build_and_loses_nothing(data, whole, tmp_path):
    with pytest.raises(UserError, match=r"the process that decoded episode 3 died \(SIGKILL\)"):
        build_cache(Deadly(data), tmp_path / "cache", means, workers=2, **SETTINGS)
    build_cache(open_dataset(data), tmp_path / "cache", means, workers=1, **SETTINGS)
    assert contents(tmp_path / "cache") == whole


def test_an_encoder_that_fails_half_way_is_gone_on_from(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "SYNC_EVERY", 0.0)
    calls = []

    def failing(frames):
        calls.append(len(frames))
        if len(calls) > 10:
            raise RuntimeError("out of memory")
        return means(frames)

    with pytest.raises(RuntimeError, match="out of memory"):
        build_cache(open_dataset(data), tmp_path / "cache", failing, workers=1, **SETTINGS)
    counted.frames = 0
    build_cache(open_dataset(data), tmp_path / "cache", counted, workers=1, **SETTINGS)
    assert contents(tmp_path / "cache") == whole
    assert counted.frames < to_encode(data)


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(data, whole, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(building, "SYNC_EVERY", 0.0)
    first = to_encode(data) - to_encode(data, first=2)

    def pressed(frames):
        counted(frames)
        if counted.frames > first + 20:
            raise KeyboardInterrupt
        return means(frames)

    counted.frames = 0
    with pytest.raises(KeyboardInterrupt):
        build_cache(open_dataset(data), tmp_path / "cache", pressed, workers=1, **SETTINGS)
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"2 of 6 episodes are encoded and kept in {tmp_path / BUILDING}: the same command goes on from there"
    build_cache(open_dataset(data), tmp_path / "cache", means, workers=1, **SETTINGS)
    assert contents(tmp_path / "cache") == whole
