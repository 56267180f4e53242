import json
import pickle
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.errors import UserError
from videopolicy.types import Episode

FPS = 20
DATA = spec.DATA.format(chunk_index=0, file_index=0)
EPISODES = spec.EPISODES.format(chunk_index=0, file_index=0)
VIDEO = spec.VIDEO.format(video_key="observation.images.top", chunk_index=0, file_index=0)


def episode(length=12, seed=0, views=("top", "wrist"), width=4, instruction="press the button"):
    rng = np.random.default_rng(seed)
    shades = {view: rng.integers(40, 200, 3).astype(np.uint8) for view in views}
    frames = {view: np.broadcast_to(shade, (length, 32, 32, 3)).copy() for view, shade in shades.items()}
    for view in views:
        for step in range(length):
            frames[view][step, step : step + 6, 5:20] = 250
    actions, states = rng.normal(size=(2, length, width)).astype(np.float32)
    return Episode(frames, instruction, FPS, actions, states, "button-v3", True, seed)


def write(path, episodes):
    with Writer(path, FPS, tuple(episodes[0].views)) as writer:
        for one in episodes:
            writer.add(one)
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "datasets", [episode(12, 0), episode(7, 1, instruction="open it"), episode(9, 2)])


def edit(path, change):
    """Rewrites a parquet file with its table changed."""
    pq.write_table(change(pq.read_table(path)), path)


def edit_info(path, **entries):
    file = path / spec.INFO
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | entries), encoding="utf-8")


def test_what_is_known_of_an_episode_comes_back(path):
    dataset = open_dataset(path)
    assert (dataset.action_width, dataset.state_width) == (4, 4)
    assert dataset.tasks == ("press the button", "open it")
    for index, (length, seed) in enumerate([(12, 0), (7, 1), (9, 2)]):
        read, written = dataset.episode(index), episode(length, seed)
        assert (read.task, read.success, read.seed) == ("button-v3", True, seed)
        np.testing.assert_array_equal(read.actions, written.actions)
        np.testing.assert_array_equal(read.states, written.states)


def test_what_is_unspecified_stays_so(tmp_path):
    read = open_dataset(write(tmp_path / "d", [replace(episode(), task="", success=None, seed=None)])).episode(0)
    assert (read.task, read.success, read.seed) == ("", None, None)


def test_video_without_actions_is_a_data_set(tmp_path):
    dataset = open_dataset(write(tmp_path / "d", [replace(episode(), actions=None, states=None)]))
    assert (dataset.action_width, dataset.state_width) == (None, None)
    read = dataset.episode(0)
    assert read.actions is None
    assert read.states is None
    assert len(read) == 12


def test_vectors_of_width_one_keep_their_shape(tmp_path):
    dataset = open_dataset(write(tmp_path / "d", [episode(width=1)]))
    assert pa.types.is_floating(pq.read_schema(tmp_path / "d" / DATA).field("action").type)
    np.testing.assert_array_equal(dataset.episode(0).actions, episode(width=1).actions)


def test_only_what_is_asked_for_is_opened(path):
    (path / VIDEO).unlink()
    dataset = open_dataset(path)
    assert [dataset.length(index) for index in range(3)] == [12, 7, 9]
    assert len(dataset.episode(0, ["wrist"])) == 12
    assert dataset.episode(1, []).actions.shape == (7, 4)
    with pytest.raises(UserError, match=r"images\.top.*no such video"):
        dataset.episode(0, ["top"])


def read_in_child(dataset, connection):
    connection.send([dataset.episode(index).views["top"].tobytes() for index in (2, 0, 1)])


def test_an_open_data_set_may_go_to_forked_processes(path):
    dataset = open_dataset(path)
    expected = [dataset.episode(index).views["top"].tobytes() for index in (2, 0, 1)]
    context = get_context("fork")
    pipes = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=read_in_child, args=(dataset, there)) for _, there in pipes]
    for process in processes:
        process.start()
    for process, (here, _) in zip(processes, pipes, strict=True):
        assert here.poll(30)
        assert here.recv() == expected
        process.join()


def test_a_copy_through_pickle_reads_the_same(path):
    dataset = open_dataset(path)
    first = dataset.episode(0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).episode(0).views["top"], first.views["top"])


def test_other_peoples_names_and_several_files_are_read(path):
    """Camera keys without "images", lists of free length, and episodes spread over two data files."""
    table = pq.read_table(path / DATA)
    later = pa.compute.equal(table["episode_index"], 2)
    free = table.set_column(0, "action", pa.array(table["action"].to_pylist(), pa.list_(pa.float64())))
    pq.write_table(free.filter(pa.compute.invert(later)), path / DATA)
    pq.write_table(free.filter(later), path / spec.DATA.format(chunk_index=0, file_index=1))
    edit(
        path / EPISODES, lambda t: t.set_column(t.column_names.index("data/file_index"), "data/file_index", [[0, 0, 1]])
    )
    before = open_dataset(path)
    (path / "videos/observation.images.top").rename(path / "videos/observation.front")
    info = json.loads((path / spec.INFO).read_text(encoding="utf-8"))
    info["features"]["observation.front"] = info["features"].pop("observation.images.top")
    (path / spec.INFO).write_text(json.dumps(info), encoding="utf-8")
    edit(
        path / EPISODES,
        lambda t: t.rename_columns(
            [n.replace("videos/observation.images.top", "videos/observation.front") for n in t.column_names]
        ),
    )
    dataset = open_dataset(path)
    assert set(dataset.views) == {"front", "wrist"}
    assert dataset.fingerprint != before.fingerprint
    for index, (length, seed) in enumerate([(12, 0), (7, 1), (9, 2)]):
        read = dataset.episode(index)
        np.testing.assert_array_equal(read.actions, episode(length, seed).actions)
        assert len(read.views["front"]) == length


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["action", "observation.state"])
def test_numbers_that_are_not_finite_are_refused_by_file_episode_and_step(path, bad, name):
    def spoil(table):
        values = table[name].to_pylist()
        values[12 + 3][1] = bad
        column = pa.array(values, table.schema.field(name).type)
        return table.set_column(table.column_names.index(name), name, column)

    edit(path / DATA, spoil)
    dataset = open_dataset(path)
    assert dataset.episode(0).actions is not None
    with pytest.raises(UserError, match=rf"file-000\.parquet: {name} of episode 1, step 3"):
        dataset.episode(1)


def test_fewer_rows_than_the_episode_has_are_refused(path):
    edit(path / DATA, lambda table: table.slice(0, table.num_rows - 1))
    with pytest.raises(UserError, match="8 rows of episode 2, but it has 9"):
        open_dataset(path).episode(2)


def test_a_video_shorter_than_its_episodes_is_refused(path, tmp_path):
    shorter = write(tmp_path / "shorter", [episode(12, 0)])
    (path / VIDEO).write_bytes((shorter / VIDEO).read_bytes())
    dataset = open_dataset(path)
    assert len(dataset.episode(0)) == 12
    with pytest.raises(UserError, match=r"file-000\.mp4: only"):
        dataset.episode(1)


@pytest.mark.parametrize("file", [DATA, EPISODES, VIDEO])
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:500])])
def test_missing_and_truncated_files_are_named(path, file, damage):
    damage(path / file)
    with pytest.raises(UserError, match=str(path)):
        open_dataset(path).episode(0)


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("v1.6", "convert_dataset_v1_to_v2"),
        ("v2.0", "python -m lerobot.*convert_dataset_v20_to_v21"),
        ("v4.0", "newer"),
        ("1", "v3.0 or v2.1 is needed"),
    ],
)
def test_another_version_is_refused_with_what_to_do(path, version, advice):
    edit_info(path, codebase_version=version)
    with pytest.raises(UserError, match=rf"info\.json: version {version}.*{advice}"):
        open_dataset(path)


def test_a_description_that_is_none_is_refused(path):
    for text in ("[]", "{}", "{", '{"codebase_version": "v3.0"}'):
        (path / spec.INFO).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"info\.json"):
            open_dataset(path)


def test_an_empty_data_set_is_refused(path):
    edit(path / EPISODES, lambda table: table.slice(0, 0))
    with pytest.raises(UserError, match="no episodes"):
        open_dataset(path)


def test_counts_that_disagree_are_refused(path):
    edit_info(path, total_frames=27)
    with pytest.raises(UserError, match="says 27 frames, but meta/episodes lists 28"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("../elsewhere/file-{file_index:03d}.parquet", "leads out of the data set"),
        ("data/../../file-{file_index}.parquet", "leads out of the data set"),
        ("/etc/file-{file_index:03d}.parquet", "leads out of the data set"),
        ("data/file-{file_index:09999999999d}.parquet", "not a list of the data set's episodes"),
        ("data/file-{file_index.__class__}.parquet", "not a list of the data set's episodes"),
    ],
)
@pytest.mark.parametrize("entry", ["data_path", "video_path"])
def test_a_description_has_no_say_over_other_places(path, entry, template, message):
    edit_info(path, **{entry: template})
    with pytest.raises(UserError, match=message):
        open_dataset(path)


def test_a_video_does_not_begin_before_its_file(path):
    name = "videos/observation.images.top/from_timestamp"
    edit(path / EPISODES, lambda t: t.set_column(t.column_names.index(name), name, [[-1.0, 0.0, 0.0]]))
    with pytest.raises(UserError, match="whole number is needed"):
        open_dataset(path)
