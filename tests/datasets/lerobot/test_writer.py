import errno
import gc
import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.disk import full_disk

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.lerobot.stats import histogram as count
from videopolicy.datasets.lerobot.stats import of_histogram, of_vectors
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.errors import UserError
from videopolicy.types import Episode

FPS = 20


def episode(length=10, seed=0, size=32, noisy=False):
    rng = np.random.default_rng(seed)
    if noisy:
        frames = rng.integers(0, 256, (length, size, size, 3), np.uint8)
    else:
        frames = np.full((length, size, size, 3), 90 + seed, np.uint8)
    actions, states = rng.normal(size=(2, length, 3)).astype(np.float32)
    return Episode({"top": frames}, f"do {seed % 2}", FPS, actions, states, "task", True, seed)


def write(path, episodes):
    with Writer(path, FPS, ("top",)) as writer:
        for one in episodes:
            writer.add(one)
    return path


def test_the_tables_say_where_everything_is(tmp_path):
    """Names and types as LeRobotDataset v3.0 has them."""
    path = write(tmp_path / "d", [episode(10, 0), episode(6, 1), episode(8, 2)])
    info = json.loads((path / spec.INFO).read_text(encoding="utf-8"))
    assert (info["codebase_version"], info["fps"], info["total_frames"], info["total_tasks"]) == ("v3.0", 20, 24, 2)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"]["action"] | {"names": None} == {"dtype": "float32", "shape": [3], "names": None}
    assert info["features"]["observation.images.top"]["shape"] == [32, 32, 3]

    rows = pq.read_table(path / spec.DATA.format(chunk_index=0, file_index=0))
    assert rows["index"].to_pylist() == list(range(24))
    assert rows["frame_index"].to_pylist() == [*range(10), *range(6), *range(8)]
    assert rows["episode_index"].to_pylist() == [0] * 10 + [1] * 6 + [2] * 8
    assert rows["task_index"].to_pylist() == [0] * 10 + [1] * 6 + [0] * 8
    np.testing.assert_allclose(rows["timestamp"].to_numpy(), np.array(rows["frame_index"]) / FPS, rtol=1e-6)
    assert str(rows.schema.field("action").type) == "fixed_size_list<element: float>[3]"

    table = pq.read_table(path / spec.EPISODES.format(chunk_index=0, file_index=0)).to_pydict()
    assert table["length"] == [10, 6, 8]
    assert (table["dataset_from_index"], table["dataset_to_index"]) == ([0, 10, 16], [10, 16, 24])
    assert table["videos/observation.images.top/from_timestamp"] == [0, 0.5, 0.8]
    assert table["videos/observation.images.top/to_timestamp"] == [0.5, 0.8, 1.2]
    assert table["tasks"] == [["do 0"], ["do 1"], ["do 0"]]

    tasks = pq.read_table(path / spec.TASKS)
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["do 0", "do 1"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_the_statistics_are_those_of_all_rows(tmp_path):
    episodes = [episode(10, 0, noisy=True), episode(6, 1, noisy=True)]
    stats = json.loads((write(tmp_path / "d", episodes) / spec.STATS).read_text(encoding="utf-8"))
    actions = np.concatenate([one.actions for one in episodes]).astype(float)
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0))
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0))
    np.testing.assert_allclose(stats["action"]["q99"], np.quantile(actions, 0.99, axis=0))
    assert stats["action"]["count"] == [16]
    pixels = np.concatenate([one.views["top"] for one in episodes]) / 255
    np.testing.assert_allclose(np.ravel(stats["observation.images.top"]["mean"]), pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(np.ravel(stats["observation.images.top"]["std"]), pixels.std((0, 1, 2)))
    assert np.shape(stats["observation.images.top"]["max"]) == (3, 1, 1)


def test_a_histogram_has_the_images_own_extremes_and_median():
    frames = np.random.default_rng(0).integers(3, 200, (7, 5, 5, 3), np.uint8)
    stats = of_histogram(count(frames), len(frames))
    assert np.ravel(stats["min"]).tolist() == (frames.min((0, 1, 2)) / 255).tolist()
    assert np.ravel(stats["max"]).tolist() == (frames.max((0, 1, 2)) / 255).tolist()
    medians = np.quantile(frames.reshape(-1, 3), 0.5, axis=0) / 255
    np.testing.assert_allclose(np.ravel(stats["q50"]), medians, atol=2 / 255)


def test_statistics_of_one_row_have_no_spread():
    assert of_vectors(np.array([[1.0, 2.0]]))["std"] == [0, 0]


def test_nothing_is_there_until_the_end_and_nothing_else_after_it(tmp_path):
    with Writer(tmp_path / "d", FPS, ("top",)) as writer:
        writer.add(episode())
        assert not (tmp_path / "d").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(errno.EIO, "broken")])
def test_after_any_failure_nothing_is_left(tmp_path, error):
    with pytest.raises(error if isinstance(error, type) else OSError), Writer(tmp_path / "d", FPS, ("top",)) as writer:
        writer.add(episode())
        raise error
    assert not list(tmp_path.iterdir())


def test_no_episodes_is_no_data_set(tmp_path):
    with pytest.raises(UserError, match="no episode"), Writer(tmp_path / "d", FPS, ("top",)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_target_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "d").mkdir()
    write(tmp_path / "d", [episode()])  # an empty folder is as good as none
    before = open_dataset(tmp_path / "d").fingerprint
    with pytest.raises(UserError, match="exists and is not empty"):
        Writer(tmp_path / "d", FPS, ("top",))
    assert open_dataset(tmp_path / "d").fingerprint == before


def test_a_target_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        Writer(tmp_path / "file" / "d", FPS, ("top",))


def test_a_target_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(UserError, match="exists"), Writer(tmp_path / "d", FPS, ("top",)) as writer:
        writer.add(episode())
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "mine").touch()
    assert [file.name for file in tmp_path.rglob("*")] == ["d", "mine"]


BAD = {
    "lacks the view 'top'": lambda e: replace(e, views={"side": e.views["top"]}),
    "one or more frames": lambda e: replace(e, views={"top": e.views["top"][:0]}, actions=None, states=None),
    "9 actions for 10 frames": lambda e: replace(e, actions=e.actions[:9]),
    "states that are not finite": lambda e: replace(e, states=np.full_like(e.states, np.nan)),
    "has no actions, but others have some; make two data sets": lambda e: replace(e, actions=None),
    "actions are 2 wide, those of other episodes 3": lambda e: replace(e, actions=e.actions[:, :2]),
    "has 30 steps a second, the data set 20": lambda e: replace(e, fps=30),
    "its instruction is None": lambda e: replace(e, instruction=None),
    r"view 'top' is float32 \(10, 32, 32, 3\); .*uint8 \(N, H, W, 3\)": lambda e: replace(
        e, views={"top": e.views["top"].astype(np.float32)}
    ),
    r"view 'top' is uint8 \(10, 3, 32, 32\)": lambda e: replace(e, views={"top": e.views["top"].transpose(0, 3, 1, 2)}),
    "view 'top' is a list": lambda e: replace(e, views={"top": list(e.views["top"])}),
    r"actions are float32 \(10,\); .*float32 \(N, width\)": lambda e: replace(e, actions=e.actions[:, 0]),
    "states are a list": lambda e: replace(e, states=e.states.tolist()),
    r"states are object \(10, 3\)": lambda e: replace(e, states=e.states.astype(object)),
    "view 'top' is 32 x 30 pixels, that of other episodes 32 x 32": lambda e: replace(
        e, views={"top": e.views["top"][:, :30]}
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_an_episode_that_does_not_fit_is_refused(tmp_path, message):
    with pytest.raises(UserError, match=f"episode 1.*{message}"), Writer(tmp_path / "d", FPS, ("top",)) as writer:
        writer.add(episode())
        writer.add(BAD[message](episode()))
    assert not list(tmp_path.iterdir())


def test_a_rate_that_was_measured_and_numbers_of_other_types_are_taken(tmp_path):
    one = episode()
    path = write(tmp_path / "d", [replace(one, fps=FPS * 1.005, actions=one.actions.astype(np.float64))])
    np.testing.assert_array_equal(open_dataset(path).episode(0, ()).actions, one.actions)


@pytest.mark.parametrize("kilobytes", [4, 40, 120])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, kilobytes):
    with full_disk(kilobytes * 1024), pytest.raises(UserError, match="no space left"):
        write(tmp_path / "d", [episode(40, seed, size=64, noisy=True) for seed in range(3)])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_not_complained_about_again_later(tmp_path, monkeypatch):
    """pyarrow's destructor closes once more what was left open, and prints that it could not."""
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with full_disk(4096):
        # Whoever looks at the exception keeps the writer alive.
        with suppress(UserError):
            write(tmp_path / "d", [episode(30, size=64, noisy=True)] * 5)
        gc.collect()
    assert not complaints


def test_a_folder_that_cannot_be_replaced_is_refused_before_anything_is_recorded(tmp_path, monkeypatch):
    for name in ("here", "disk"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "disk")  # to mount takes rights
    for path in (Path(), tmp_path / "here", tmp_path / "disk"):
        with pytest.raises(UserError, match="name a new folder in it"):
            Writer(path, FPS, ("top",))


def test_the_data_set_has_the_usual_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        path = write(tmp_path / "d", [episode()])
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o755


def same_bytes(one, other):
    """Whether two folders hold the same files."""
    files = [[file for file in sorted(path.rglob("*")) if file.is_file()] for path in (one, other)]
    read = [
        [(file.relative_to(path), file.read_bytes()) for file in its]
        for path, its in zip((one, other), files, strict=True)
    ]
    return read[0] == read[1]


def test_an_episode_in_parts_is_the_same_episode(tmp_path):
    """Parts of as many frames as there are from one key frame to the next make the very same bytes."""
    whole = episode(35, 0)
    parts = (
        replace(
            whole,
            views={"top": whole.views["top"][first : first + 10]},
            actions=whole.actions[first : first + 10],
            states=whole.states[first : first + 10],
        )
        for first in range(0, 35, 10)
    )
    with Writer(tmp_path / "parts", FPS, ("top",)) as writer:
        writer.add_blocks(parts)
    assert same_bytes(write(tmp_path / "whole", [whole]), tmp_path / "parts")


def test_views_may_differ_in_size(tmp_path):
    one = episode(5, 0)
    wide = np.full((5, 16, 48, 3), 77, np.uint8)
    path = tmp_path / "d"
    with Writer(path, FPS, ("top", "side")) as writer:
        writer.add(replace(one, views={**one.views, "side": wide}))
    read = open_dataset(path).episode(0)
    assert (read.views["top"].shape, read.views["side"].shape) == ((5, 32, 32, 3), (5, 16, 48, 3))
    features = json.loads((path / spec.INFO).read_text(encoding="utf-8"))["features"]
    assert features["observation.images.side"]["shape"] == [16, 48, 3]
    assert features["observation.images.side"]["info"]["video.width"] == 48


def test_a_long_set_is_several_files_and_reads_the_same(tmp_path, monkeypatch):
    episodes = [episode(length, seed) for seed, length in enumerate((10, 6, 8, 12))]
    one = open_dataset(write(tmp_path / "one", episodes))
    monkeypatch.setattr("videopolicy.datasets.lerobot.writer.STEPS_A_FILE", 12)
    several = open_dataset(write(tmp_path / "several", episodes))
    files = sorted(file.name for file in (tmp_path / "several" / "videos").rglob("*.mp4"))
    assert files == ["file-000.mp4", "file-001.mp4"]
    tables = [pq.read_table(tmp_path / "several" / spec.DATA.format(**spec.place(number))) for number in range(2)]
    assert [index for table in tables for index in table["index"].to_pylist()] == list(range(36))
    assert [set(table["episode_index"].to_pylist()) for table in tables] == [{0, 1}, {2, 3}]
    for index in range(4):
        np.testing.assert_array_equal(several.episode(index).actions, one.episode(index).actions)
        assert np.abs(several.episode(index).views["top"].astype(int) - one.episode(index).views["top"]).max() < 8
    stats = [json.loads((tmp_path / name / spec.STATS).read_text(encoding="utf-8")) for name in ("one", "several")]
    assert stats[0] == stats[1]


def test_more_than_a_thousand_files_go_into_several_folders():
    assert spec.place(999) == {"chunk_index": 0, "file_index": 999}
    assert spec.place(2001) == {"chunk_index": 2, "file_index": 1}


def test_layouts_are_written_if_they_fit(tmp_path):
    with Writer(tmp_path / "d", FPS, ("top",), action_layout="delta_position", state_layout="joints:3") as writer:
        writer.add(episode())
    info = json.loads((tmp_path / "d" / spec.INFO).read_text(encoding="utf-8"))
    assert (info[spec.ACTION_LAYOUT], info[spec.STATE_LAYOUT]) == ("delta_position", "joints:3")
    assert spec.ACTION_LAYOUT not in json.loads(
        (write(tmp_path / "e", [episode()]) / spec.INFO).read_text(encoding="utf-8")
    )


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("position gripper:1", {}, "has 4 dimensions, but it has actions of 3 dimensions"),
        ("position", {"actions": None}, "has 3 dimensions, but it has no actions"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(tmp_path, layout, change, message):
    with pytest.raises(UserError, match=message), Writer(tmp_path / "d", FPS, ("top",), action_layout=layout) as writer:
        writer.add(replace(episode(), **change))
    assert not list(tmp_path.iterdir())


def test_nothing_is_kept_if_an_episode_went_in_only_in_part(tmp_path):
    """Its caller goes on, but every later episode would show the frames of another one."""
    path = tmp_path / "d"
    with pytest.raises(UserError, match="went in only in part"), Writer(path, FPS, ("top",)) as writer:
        writer.add(episode())
        with pytest.raises(UserError, match="not finite"):
            writer.add_blocks([episode(), replace(episode(), actions=np.full((10, 3), np.nan, np.float32))])
        writer.add(episode(seed=1))
    assert not list(tmp_path.iterdir())


def test_an_episode_that_was_refused_whole_is_in_nobodys_way(tmp_path):
    with Writer(tmp_path / "d", FPS, ("top",)) as writer:
        writer.add(episode())
        with pytest.raises(UserError, match="not finite"):
            writer.add(replace(episode(), actions=np.full((10, 3), np.nan, np.float32)))
        writer.add(episode(seed=1))
    read = open_dataset(tmp_path / "d")
    assert len(read) == 2
    np.testing.assert_array_equal(read.episode(1, ()).actions, episode(seed=1).actions)


def test_an_interrupt_as_it_begins_leaves_nothing(tmp_path, monkeypatch):
    make = Path.mkdir

    def interrupted(path, *arguments, **options):
        make(path, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "d", 10, ("top",)):
        pass
    assert not list(tmp_path.iterdir())
