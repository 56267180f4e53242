"""Data sets as others record them: the old version, pictures in the tables, several instructions, depth, odd names."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.datasets.lerobot.old_format import to_old, write_lines
from tests.datasets.lerobot.test_lerobot import DATA, EPISODES, edit, edit_info, episode, write

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.errors import UserError

pytestmark = pytest.mark.slow

RECORDED = [episode(12, 0), episode(7, 1, instruction="open it"), episode(9, 2)]


@pytest.fixture(scope="module")
def new_path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("new") / "datasets", RECORDED)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "datasets", RECORDED)


@pytest.fixture
def old(new_path, tmp_path):
    return to_old(new_path, tmp_path / "old")


def set_column(table, name, values, kind=None):
    column = pa.array(values, kind or table.schema.field(name).type)
    if name not in table.column_names:
        return table.append_column(name, column)
    return table.set_column(table.column_names.index(name), name, column)


def features(path, change):
    info = json.loads((path / spec.INFO).read_text(encoding="utf-8"))
    change(info["features"])
    (path / spec.INFO).write_text(json.dumps(info), encoding="utf-8")


def test_the_old_version_reads_as_the_new_one(old, new_path):
    dataset, same = open_dataset(old), open_dataset(new_path)
    assert (dataset.views, dataset.tasks, dataset.fps) == (same.views, same.tasks, same.fps)
    assert (dataset.action_width, dataset.state_width, len(dataset)) == (4, 4, 3)
    for index in range(3):
        one, other = dataset.episode(index), same.episode(index)
        assert (one.instruction, len(one)) == (other.instruction, dataset.length(index))
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.states, other.states)
        for view, frames in one.views.items():
            assert np.abs(frames.astype(int) - other.views[view]).mean() < 2
    assert dataset.fingerprint == open_dataset(old).fingerprint != same.fingerprint


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_few_files_are_open_however_many_episodes_there_are(tmp_path):
    several = [episode(3, seed) for seed in range(20)]
    dataset = open_dataset(to_old(write(tmp_path / "new", several), tmp_path / "old"))
    dataset.episode(0)
    before = open_files()
    read = [dataset.episode(index) for index in range(20)]
    assert open_files() - before < 40
    for one, made in zip(read, several, strict=True):
        np.testing.assert_array_equal(one.actions, made.actions)
    dataset.close()
    assert open_files() < before


@pytest.mark.parametrize("file", ["meta/episodes.jsonl", "meta/tasks.jsonl", "data/chunk-000/episode_000001.parquet"])
def test_a_missing_or_cut_file_of_the_old_version_is_named(old, file):
    content = (old / file).read_bytes()
    for damage in (lambda: (old / file).write_bytes(content[: len(content) // 2]), (old / file).unlink):
        damage()
        dataset = open_dataset(old)
        assert any(file.split("/")[-1] in str(note) for note in dataset.notes)
        lost = "parquet" in file
        assert [dataset.number(index) for index in range(len(dataset))] == ([0, 2] if lost else [0, 1, 2])
        for index in range(len(dataset)):
            made = RECORDED[dataset.number(index)]
            read = dataset.episode(index)
            np.testing.assert_array_equal(read.actions, made.actions)
            assert read.instruction == made.instruction
            assert np.abs(read.views["top"].astype(int) - made.views["top"]).mean() < 3


def read_all(dataset):
    return [dataset.episode(index) for index in range(len(dataset))]


def test_a_line_that_is_missing_is_noticed(old):
    file = old / "meta/episodes.jsonl"
    file.write_text("\n".join(file.read_text(encoding="utf-8").splitlines()[:-1]), encoding="utf-8")
    dataset = open_dataset(old)
    assert len(dataset.episode(2)) == 9
    assert [note.episodes for note in dataset.notes if "does not list episodes" in note.text] == [(2,)]


def test_version_2_0_is_read(old):
    """It keeps the statistics of all episodes in one file, which nothing here needs."""
    edit_info(old, codebase_version="v2.0")
    dataset = open_dataset(old)
    assert not dataset.notes
    np.testing.assert_array_equal(dataset.episode(1).actions, RECORDED[1].actions)


def test_videos_and_rows_in_other_folders_than_named_are_found(old):
    (old / "data/chunk-000").rename(old / "data/chunk-007")
    (old / "videos/chunk-000").rename(old / "videos/part")
    dataset = open_dataset(old)
    for index, made in enumerate(RECORDED):
        read = dataset.episode(index)
        np.testing.assert_array_equal(read.actions, made.actions)
        for view, frames in made.views.items():
            assert np.abs(read.views[view].astype(int) - frames).mean() < 3
    assert {note.kind for note in dataset.notes} == {"mended"}


def test_the_name_of_a_file_counts_more_than_the_number_in_its_rows(old):
    """Sets that were put together of several, each counted from 0."""
    for file in sorted((old / "data").rglob("*.parquet")):
        edit(file, lambda t: set_column(t, "episode_index", [0] * len(t)))
    dataset = open_dataset(old)
    for index, made in enumerate(RECORDED):
        np.testing.assert_array_equal(dataset.episode(index).actions, made.actions)
    assert [note.episodes for note in dataset.notes] == [(1, 2)]


def pictures(count, size=(24, 32), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


def packed(frames, kind="PNG", mode="RGB", **settings):
    result = []
    for frame in frames:
        Image.fromarray(frame).convert(mode).save(stream := BytesIO(), kind, **settings)
        result.append({"bytes": stream.getvalue(), "path": "frame.png"})
    return result


def with_pictures(path, values, shape=(24, 32, 3)):
    """The same data set with a view "image" in its rows, and no video."""
    edit(
        path / DATA,
        lambda t: set_column(t, "image", values, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    )

    def change(entries):
        for key in [key for key, feature in entries.items() if feature["dtype"] == "video"]:
            del entries[key]
        entries["image"] = {"dtype": "image", "shape": list(shape), "names": ["height", "width", "channels"]}

    features(path, change)
    return path


@pytest.mark.parametrize("shape", [(24, 32, 3), (3, 24, 32)])
def test_pictures_in_the_rows_are_read_exactly(path, shape):
    frames = pictures(28)
    dataset = open_dataset(with_pictures(path, packed(frames), shape))
    assert dataset.views == ("image",)
    np.testing.assert_array_equal(dataset.episode(1).views["image"], frames[12:19])
    np.testing.assert_array_equal(dataset.episode(2, start=3, stop=6).views["image"], frames[22:25])
    assert dataset.episode(2, start=4, stop=4).views["image"].shape == (0, 24, 32, 3)


def test_rows_in_many_groups_are_read_in_blocks(path):
    with_pictures(path, packed(frames := pictures(28)))
    pq.write_table(pq.read_table(path / DATA), path / DATA, row_group_size=5)
    dataset = open_dataset(path)
    whole = dataset.episode(0)
    np.testing.assert_array_equal(whole.views["image"], frames[:12])
    for start in range(12):
        block = dataset.episode(0, start=start, stop=start + 4)
        np.testing.assert_array_equal(block.actions, whole.actions[start : start + 4])
        np.testing.assert_array_equal(block.views["image"], frames[start : min(start + 4, 12)])


def test_jpeg_and_grey_pictures_are_read_as_colours(path):
    smooth = np.broadcast_to(np.arange(0, 64, 2, dtype=np.uint8)[None, None, :, None], (28, 24, 32, 3))
    dataset = open_dataset(with_pictures(path, packed(smooth[:14], "JPEG", quality=95) + packed(smooth[14:], mode="L")))
    for one, made in zip(read_all(dataset), (smooth[:12], smooth[12:19], smooth[19:]), strict=True):
        assert np.abs(one.views["image"].astype(int) - made).max() < 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda value: value | {"bytes": None}, "not in the table"),
        (lambda value: value | {"bytes": value["bytes"][:-60]}, "cannot be decoded"),
        (lambda value: value | {"bytes": b""}, "cannot be decoded"),
        (lambda value: packed(pictures(1, (24, 30)))[0], "30 x 24"),
        (lambda value: packed(pictures(1)[..., 0].astype(np.uint16), mode="I;16")[0], "16 bits"),
    ],
)
def test_a_bad_picture_is_refused_by_file_episode_and_view(path, spoil, message):
    values = packed(pictures(28))
    values[14] = spoil(values[14])
    dataset = open_dataset(with_pictures(path, values))
    assert len(dataset.episode(0)) == 12
    with pytest.raises(UserError, match=rf"file-000\.parquet: image of episode 1.*{message}"):
        dataset.episode(1)


def test_depth_is_left_out_and_said(path):
    def change(entries):
        entries["observation.images.wrist"]["info"]["video.is_depth_map"] = True
        entries["cloud"] = {"dtype": "float32", "shape": [8, 8, 3], "names": None}

    features(path, change)
    dataset = open_dataset(path)
    assert dataset.views == ("top",)
    told = [str(note) for note in dataset.notes]
    assert {note.kind for note in dataset.notes} == {"left out", "unused"}
    assert [line.split(":")[0] for line in told if "images" in line] == ["observation.images.wrist"]
    assert any("describes cloud, but" in line for line in told)


def test_views_of_one_short_name_keep_their_long_ones(path):
    features(path, lambda entries: entries.update(top=entries["observation.images.top"]))
    edit(
        path / EPISODES,
        lambda t: (
            t.append_column("videos/top/chunk_index", t["videos/observation.images.top/chunk_index"])
            .append_column("videos/top/file_index", t["videos/observation.images.top/file_index"])
            .append_column("videos/top/from_timestamp", t["videos/observation.images.top/from_timestamp"])
        ),
    )
    (path / "videos/top").symlink_to(path / "videos/observation.images.top")
    dataset = open_dataset(path)
    assert set(dataset.views) == {"observation.images.top", "wrist", "top"}
    read = dataset.episode(2)
    np.testing.assert_array_equal(read.views["top"], read.views["observation.images.top"])


def test_of_several_instructions_the_one_of_most_steps_counts(path):
    """The list of an episode's instructions is in no order; which step has which stands in its rows."""
    edit(path / DATA, lambda t: set_column(t, "task_index", [0] * 5 + [1] * 7 + [1] * 7 + [0] * 9))
    edit(path / EPISODES, lambda t: set_column(t, "tasks", [["press the button", "open it"], ["open it"], []]))
    dataset = open_dataset(path)
    assert [one.instruction for one in read_all(dataset)] == ["open it", "open it", "press the button"]
    assert dataset.episode(0, start=0, stop=3).instruction == "open it"
    assert [(note.kind, note.episodes) for note in dataset.notes] == [("mended", (0,))]
    assert "of several instructions" in dataset.notes[0].text


def test_instructions_that_disagree_are_those_of_the_rows(path):
    edit(path / DATA, lambda t: set_column(t, "task_index", [1] * 12 + [1] * 7 + [0] * 9))
    dataset = open_dataset(path)
    assert [one.instruction for one in read_all(dataset)] == ["open it", "open it", "press the button"]
    assert [(note.kind, note.episodes) for note in dataset.notes] == [("mended", (0,))]
    edit(path / DATA, lambda t: set_column(t, "task_index", [5] * 28))
    dataset = open_dataset(path)
    assert [one.instruction for one in read_all(dataset)] == ["press the button", "open it", "press the button"]
    assert "its task_index is in no list of instructions" in dataset.notes[0].text


def test_without_task_index_each_episode_has_its_own_instruction(path):
    edit(path / DATA, lambda t: t.drop_columns(["task_index"]))
    dataset = open_dataset(path)
    assert [one.instruction for one in read_all(dataset)] == ["press the button", "open it", "press the button"]
    assert [(note.kind, note.episodes) for note in dataset.notes] == [("mended", (0, 1, 2))]


def test_a_table_of_instructions_whose_index_has_no_name_is_read(path):
    edit(path / spec.TASKS, lambda t: t.rename_columns(["task_index", "__index_level_0__"]))
    assert open_dataset(path).tasks == ("press the button", "open it")


def test_other_names_types_and_shapes_of_actions_are_read(path):
    """A robot of two arms, as doubles, in a table of 2 x 2; a state of whole numbers."""
    table = pq.read_table(path / DATA)
    actions = np.array(table["action"].to_pylist())
    table = table.drop(["action", "observation.state"])
    nested = pa.array(actions.reshape(-1, 2, 2).tolist(), pa.list_(pa.list_(pa.float64())))
    table = table.append_column("actions", nested).append_column("state", pa.array(range(28), pa.int64()))
    pq.write_table(table, path / DATA)

    def change(entries):
        del entries["action"], entries["observation.state"]
        entries["actions"] = {"dtype": "float64", "shape": [2, 2], "names": None}
        entries["state"] = {"dtype": "int64", "shape": [1], "names": None}

    features(path, change)
    dataset = open_dataset(path)
    assert (dataset.action_width, dataset.state_width) == (4, 1)
    read = dataset.episode(1)
    np.testing.assert_array_equal(read.actions, actions[12:19].astype(np.float32))
    assert read.states.ravel().tolist() == list(range(12, 19))


def test_rows_of_different_widths_are_refused(path):
    def ragged(table):
        values = table["action"].to_pylist()
        values[13], values[14] = values[13][:3], [*values[14], 0.0]
        return set_column(table, "action", values, pa.list_(pa.float32()))

    edit(path / DATA, ragged)
    with pytest.raises(UserError, match=r"file-000\.parquet: action of episode 1.*different widths"):
        open_dataset(path).episode(1)


@pytest.mark.parametrize(
    ("change", "message", "left"),
    [
        (lambda t: set_column(t, "frame_index", [0, 2, 1, *range(3, 12), *range(7), *range(9)]), "one by one", [1, 2]),
        (lambda t: set_column(t, "episode_index", [0] * 12 + [1] * 7 + [2] * 5 + [1] * 4), "not in one piece", [0]),
    ],
)
def test_rows_out_of_order_cost_their_episodes(path, change, message, left):
    edit(path / DATA, change)
    dataset = open_dataset(path)
    assert [dataset.number(index) for index in range(len(dataset))] == left
    for index, number in enumerate(left):
        np.testing.assert_array_equal(dataset.episode(index).actions, RECORDED[number].actions)
        assert np.abs(dataset.episode(index).views["top"].astype(int) - RECORDED[number].views["top"]).mean() < 3
    assert any(note.kind == "left out" and message in note.text for note in dataset.notes)


@pytest.mark.parametrize(
    "said", [{spec.NOTES: ["left out: episode 3: it is black", 7]}, {"videopolicy/skipped": ["episode 3: it is black"]}]
)
def test_layouts_and_what_a_conversion_left_out_are_told(path, said):
    edit_info(path, **{spec.ACTION_LAYOUT: "position:4", spec.STATE_LAYOUT: 7}, **said)
    dataset = open_dataset(path)
    assert (dataset.action_layout, dataset.state_layout) == ("position:4", "")
    assert [(note.kind, str(note)) for note in dataset.notes] == [("converted", "left out: episode 3: it is black")]


@pytest.mark.parametrize("fps", [0, -20, None, "20", float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(path, fps):
    edit_info(path, fps=fps)
    with pytest.raises(UserError, match=r"info\.json: fps is"):
        open_dataset(path)


@pytest.mark.parametrize("fps", [12.5, 29.97, 7])
def test_any_rate_is_read(tmp_path, fps):
    with Writer(tmp_path / "d", fps, ("top", "wrist")) as writer:
        for one in RECORDED:
            writer.add(replace(one, fps=fps))
    dataset = open_dataset(tmp_path / "d")
    for one, made in zip(read_all(dataset), RECORDED, strict=True):
        assert one.fps == fps
        assert np.abs(one.views["top"].astype(int) - made.views["top"]).mean() < 3


def test_lines_of_the_old_version_that_are_none_are_told(old):
    for lines in (
        [1, 2],
        [{"episode_index": "0", "length": 3}],
        [{"episode_index": -1, "length": 3}],
    ):
        write_lines(old / "meta/episodes.jsonl", lines)
        dataset = open_dataset(old)
        assert "episodes.jsonl: line 1" in str(dataset.notes[0])
        assert [len(one) for one in read_all(dataset)] == [12, 7, 9]
