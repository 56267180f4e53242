import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.disk import full_disk

from videopolicy.datasets.conversion import convert as module
from videopolicy.datasets.conversion.convert import convert, plan
from videopolicy.datasets.conversion.shard import Segment, ShardJob, shard_folder
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.conversion.staging import staging, staging_folder
from videopolicy.datasets.conversion.workers import convert_runs
from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.lerobot.shard import Shard, ShardSchema
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError
from videopolicy.similarity import psnr
from videopolicy.types import Episode

pytestmark = pytest.mark.slow

FPS = 20


def frames(rng, length, height=16, width=16):
    """Soft waves that wander, as pictures of a room are: mostly smooth."""
    y, x, t = np.ogrid[:height, :width, :length]
    waves = [np.sin(x / 4 + 6 * rng.random() + t / 9) + np.cos(y / 5 + 6 * rng.random()) for _ in range(3)]
    return np.moveaxis(np.uint8(128 + 50 * np.stack(waves, -1)), 2, 0)


def episode(seed, length=12, views=("top",), size=16, **known):
    rng = np.random.default_rng(seed)
    actions, states = rng.normal(size=(length, 4)).astype(np.float32), rng.normal(size=(length, 3)).astype(np.float32)
    images = {view: frames(rng, length, size, size) for view in views}
    values = {"task": "push-v3", "success": True, "seed": seed, "actions": actions, "states": states}
    return Episode(images, ("push it", "pull it")[seed % 2], FPS, **values | known)


def write(path, episodes, **options):
    with Writer(path, FPS, tuple(episodes[0].views), **options) as writer:
        for one in episodes:
            writer.add(one)
    return ConversionSource(path, "lerobot")


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "source", [episode(seed, 12 + seed) for seed in range(6)])


def strict(source):
    return replace(source, reading=Reading(strict=True))


@pytest.fixture
def stable(tmp_path):
    """Frames of 64 pixels: of 16, x264 codes a few in a hundred otherwise from one time to the next."""
    return write(tmp_path / "source", [episode(seed, 12 + seed, size=64) for seed in range(6)])


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "_LEAST", 20)


def content(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def spoil(source, index, bad=np.nan):
    """Makes an action of one episode a number that no reader takes."""
    file = source.path / spec.DATA.format(**spec.place(0))
    table = pq.read_table(file)
    values = table["action"].to_pylist()
    values[table["episode_index"].to_pylist().index(index)][0] = bad
    column = pa.array(values, table.schema.field("action").type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), file)


def bits(rng, shape):
    """Numbers of every magnitude, zeros of both signs among them."""
    values = rng.integers(0, 2**32, shape, np.uint32).view(np.float32)
    return np.where(np.isfinite(values) & (np.abs(values) < 1e30), values, np.float32(-0.0))


@st.composite
def episodes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    views = draw(st.sampled_from([("top",), ("top", "wrist")]))
    action, state = draw(st.sampled_from([None, 1, 5])), draw(st.sampled_from([None, 1, 3]))
    sizes = {view: draw(st.sampled_from([(16, 16), (16, 24), (17, 19)])) for view in views}
    return [
        Episode(
            {view: frames(rng, length, *sizes[view]) for view in views},
            draw(st.sampled_from(["push it", "zieh 'ß', \"x\"", "a\nb"])),
            FPS,
            None if action is None else bits(rng, (length, action)),
            None if state is None else bits(rng, (length, state)),
            draw(st.sampled_from(["", "push-v3"])),
            draw(st.sampled_from([None, True, False])),
            draw(st.sampled_from([None, 0, 2**40])),
        )
        for length in draw(st.lists(st.integers(1, 25), min_size=1, max_size=4))
    ]


def worst(one, other):
    """The least PSNR of all frames of two episodes."""
    return min(psnr(a, b) for view in one.views for a, b in zip(one.views[view], other.views[view], strict=True))


def assert_same_but_for_loss(one, other, least):
    assert (one.instruction, one.task, one.success, one.seed) == (
        other.instruction,
        other.task,
        other.success,
        other.seed,
    )
    for a, b in ((one.actions, other.actions), (one.states, other.states)):
        assert (a is None and b is None) or a.tobytes() == b.tobytes()
    assert worst(one, other) > least


@settings(max_examples=8)
@given(recorded=episodes())
def test_nothing_is_lost(tmp_path_factory, recorded):
    """Neither from memory to disk nor from disk to disk; twice loses little more than once."""
    path = tmp_path_factory.mktemp("convert")
    source = write(path / "source", recorded)
    outcome = convert(source, path / "once", 1)
    convert(ConversionSource(path / "once", "lerobot"), path / "twice", 1)
    read, once, twice = (open_dataset(path / name) for name in ("source", "once", "twice"))
    assert outcome.episodes == len(once) == len(twice) == len(recorded)
    assert outcome.frames == sum(map(len, recorded))
    for index, one in enumerate(recorded):
        assert len(once.episode(index)) == len(twice.episode(index)) == len(one)
        assert_same_but_for_loss(once.episode(index), one, 30)
        assert_same_but_for_loss(once.episode(index), read.episode(index), 32)
        assert_same_but_for_loss(twice.episode(index), once.episode(index), 34)
    assert (path / "once" / spec.INFO).read_text(encoding="utf-8") == (path / "twice" / spec.INFO).read_text(
        encoding="utf-8"
    )
    for view, (mean, least) in outcome.quality.items():
        each = [
            psnr(a, b)
            for i in range(len(recorded))
            for a, b in zip(read.episode(i).views[view], once.episode(i).views[view], strict=True)
        ]
        assert len(each) > 64 or (mean, least) == pytest.approx(
            (np.mean(np.minimum(each, 60)), min(*each, 60)), abs=1e-6
        )


def test_processes_change_nothing(tmp_path, stable, small_shards):
    told = [convert(stable, tmp_path / f"{workers}", workers) for workers in (1, 2)]
    assert told[0] == told[1]
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert len(list((tmp_path / "1" / "videos").rglob("*.mp4"))) > 2
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


# A conversion that ends its main process on the spot when that is about to touch what it writes for the n-th time.
KILLED = """
import os, signal, sys
from pathlib import Path
from videopolicy.datasets.conversion import convert
from videopolicy.datasets.conversion.source import ConversionSource

source, target, staging, workers, left = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
convert._LEAST, left = 20, int(left)

def hook(event, arguments):
    global left
    if arguments and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(staging):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
convert.convert(ConversionSource(source, "lerobot"), target, int(workers))
"""


@pytest.mark.parametrize(("workers", "touches"), [(1, (12, 30, 55)), (2, (10,))])
def test_what_was_killed_goes_on_to_the_same_bytes(tmp_path, stable, small_shards, workers, touches):
    convert(stable, tmp_path / "whole", 1)
    target = tmp_path / "killed"
    for touch in touches:
        command = (sys.executable, "-c", KILLED, stable.path, target, staging_folder(target), workers, touch)
        assert subprocess.run([*map(str, command)], stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    convert(stable, target, 1)
    assert content(tmp_path / "whole") == content(tmp_path / "killed")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_process_that_dies_is_an_error_that_says_where(tmp_path, source, small_shards):
    (tmp_path / "shards").mkdir()
    job = ShardJob(source, tmp_path / "shards", ShardSchema({"top": (16, 16)}, 4, 3), 10)
    killed = []

    def kill(run, frames):
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)
        killed.append(run)

    with pytest.raises(UserError, match=r"episodes \d to \d died \(SIGKILL\).*same command"):
        convert_runs(job, plan([12 + seed for seed in range(6)]), 2, kill)
    assert killed
    assert not multiprocessing.active_children()


def test_a_damaged_episode_stops_or_is_left_out_and_listed(tmp_path, source, small_shards):
    spoil(source, 3)
    spoil(source, 4)
    with pytest.raises(UserError, match=r"episode 3.*; without --strict, the other episodes are converted"):
        convert(strict(source), tmp_path / "d", 1)
    assert not (tmp_path / "d").exists()
    outcome = convert(source, tmp_path / "d", 1)
    assert outcome.resumed[0] == 1, "what came before the damage is kept"
    assert outcome.episodes == 4
    assert [(note.kind, note.episodes) for note in outcome.notes] == [("left out", (3, 4))]
    assert "NaN or infinite at step 0 of episode 3" in outcome.notes[0].text
    assert json.loads((tmp_path / "d" / spec.INFO).read_text(encoding="utf-8"))[spec.NOTES] == [
        f"left out: {outcome.notes[0]}"
    ]
    read, written = open_dataset(source.path), open_dataset(tmp_path / "d")
    for index, own in enumerate((0, 1, 2, 5)):
        assert_same_but_for_loss(written.episode(index), read.episode(own), 32)


def test_nothing_but_damage_is_no_data_set(tmp_path, source):
    for index in range(6):
        spoil(source, index)
    with pytest.raises(UserError, match="none of 6 episodes"):
        convert(source, tmp_path / "d", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_damage_that_was_skipped_is_told_of_when_it_may_not_be(tmp_path, source, small_shards):
    spoil(source, 0)
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "assemble", interrupt)
        convert(source, tmp_path / "d", 1)
    with pytest.raises(UserError, match="episode 0"):
        convert(strict(source), tmp_path / "d", 1)


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_full_disk_keeps_what_is_there(tmp_path, small_shards):
    noise = np.random.default_rng(0).integers(0, 256, (25, 64, 64, 3), np.uint8)
    recorded = [episode(seed, 25) for seed in range(3)]
    recorded[2] = replace(recorded[2], views={"top": noise[:, ::4, ::4]})
    source = write(tmp_path / "source", recorded)
    with full_disk(12_000), pytest.raises(OSError) as full:
        convert(source, tmp_path / "d", 1)
    assert full.value.filename
    assert convert(source, tmp_path / "d", 1).resumed == (2, 3)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_another_conversion_to_the_same_place_is_refused(tmp_path, source, small_shards):
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "assemble", interrupt)
        convert(source, tmp_path / "d", 1)
    with pytest.raises(UserError, match=r"\(another size\).*remove this folder"):
        convert(replace(source, size=8), tmp_path / "d", 1)
    with pytest.raises(UserError, match=r"\(another flip, rotate\).*remove this folder"):
        convert(replace(source, flip={"top": "vertical"}, rotate={"top": 90}), tmp_path / "d", 1)
    spoil(source, 0, bad=0.5)
    (source.path / spec.INFO).write_text((source.path / spec.INFO).read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(UserError, match=r"\(another source\)"):
        convert(source, tmp_path / "d", 1)


def test_what_another_one_only_began_is_in_nobodys_way(tmp_path, source):
    folder = staging_folder(tmp_path / "d")
    (folder / "shards" / "000000.77.partial").mkdir(parents=True)
    (folder / "recipe.json").write_text('{"version": 0}', encoding="utf-8")
    assert convert(source, tmp_path / "d", 1).resumed[0] == 0
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["d", "source"]


def test_a_folder_of_somebody_elses_is_kept(tmp_path, source):
    (staging_folder(tmp_path / "d") / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="no conversion's folder"):
        convert(source, tmp_path / "d", 1)
    assert (staging_folder(tmp_path / "d") / "mine").exists()


def test_two_at_the_same_time_are_refused(tmp_path, source):
    said = pytest.raises(UserError, match=r"d is being written by `videopolicy convert` \(process")
    with ThreadPoolExecutor(1) as other, staging(tmp_path / "d", {}), said:
        other.submit(convert, source, tmp_path / "d", 1).result()
    assert convert(source, tmp_path / "d", 1).episodes == 6


@pytest.mark.parametrize("where", ["source", "source/inside", "source/meta/deep"])
def test_a_target_in_its_own_source_is_refused(tmp_path, source, where):
    before = content(source.path)
    with pytest.raises(UserError, match="name a place outside"):
        convert(source, tmp_path / where, 1)
    assert content(source.path) == before


def test_a_target_that_holds_something_is_kept(tmp_path, source):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine").touch()
    with pytest.raises(UserError, match="exists and is not empty"):
        convert(source, tmp_path / "d", 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d", "source"]


def test_all_that_was_asked_for_at_once(tmp_path):
    source = write(tmp_path / "source", [episode(seed, 20, views=("a", "b")) for seed in range(2)])
    source = replace(
        source,
        views={"front": "b"},
        fps=10,
        size=8,
        instructions={"push it": "shove it"},
        action_layout="delta_position gripper[-1,1]",
        state_layout="position",
    )
    outcome = convert(source, tmp_path / "d", 1)
    written, own = open_dataset(tmp_path / "d"), open_dataset(tmp_path / "source")
    assert (written.views, written.fps, outcome.frames) == (("front",), 10, 20)
    info = json.loads((tmp_path / "d" / spec.INFO).read_text(encoding="utf-8"))
    assert info[spec.ACTION_LAYOUT] == "delta_position gripper[-1,1]"
    one, before = written.episode(0), own.episode(0)
    assert (one.instruction, written.episode(1).instruction) == ("shove it", "pull it")
    assert one.views["front"].shape == (10, 8, 8, 3)
    np.testing.assert_allclose(one.actions[:, :3], before.actions[:, :3].reshape(10, 2, 3).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(one.actions[:, 3], before.actions[1::2, 3])
    np.testing.assert_array_equal(one.states, before.states[::2])
    areas = before.views["b"][::2].reshape(10, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(one.views["front"] - areas).mean() < 3


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=300))
def test_every_episode_is_in_one_run(lengths):
    runs = plan(lengths)
    assert [index for run in runs for index in range(run.first, run.end)] == list(range(len(lengths)))
    assert [run.frames for run in runs] == [sum(lengths[run.first : run.end]) for run in runs]
    assert [run.number for run in runs] == list(range(len(runs)))
    assert all(500 <= run.frames < 10_000 + max(lengths) for run in runs[:-1])


def test_a_run_that_is_told_frames_it_does_not_have_is_refused(tmp_path, source):
    """The kind that the first episode fixed holds for all, whichever process has them."""
    (tmp_path / "shards").mkdir()
    job = ShardJob(strict(source), tmp_path / "shards", ShardSchema({"top": (32, 32)}, 4, 3), 10)
    with pytest.raises(UserError, match="episode 0: view 'top' is 16 x 16 pixels, that of other episodes 32 x 32"):
        convert_runs(job, [Segment(0, 0, 1, 12)], 1, lambda run, frames: None)
    assert not list((tmp_path / "shards").iterdir())


def test_a_shard_without_its_damaged_episodes_gives_way_to_one_that_has_them(tmp_path, source):
    job = ShardJob(source, tmp_path / "shards", ShardSchema({"top": (16, 16)}, 4, 3), 10)
    run = Segment(0, 0, 1, 12)
    job.folder.mkdir()
    for _ in range(2):
        convert_runs(job, [run], 1, lambda run, frames: None)
    assert len(Shard.load(shard_folder(job, run)).entries) == 1
