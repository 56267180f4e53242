import json
import pickle
import shutil
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


def test_a_view_without_videos_is_left_out_and_named(path):
    (path / VIDEO).unlink()
    dataset = open_dataset(path)
    assert dataset.views == ("wrist",)
    assert [dataset.length(index) for index in range(3)] == [12, 7, 9]
    assert dataset.episode(1, []).actions.shape == (7, 4)
    (note,) = dataset.notes
    assert note.kind == "left out"
    assert "of view 'top', which is left out" in note.text
    assert f"{VIDEO}: no such video" in note.text
    with pytest.raises(UserError, match="no view 'top'"):
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
    with pytest.raises(
        UserError, match=rf"file-000\.parquet: {name} has a value that is NaN or infinite at step 3 of episode 1"
    ):
        dataset.episode(1)


def test_steps_without_a_row_are_not_read(path):
    edit(path / DATA, lambda table: table.slice(0, table.num_rows - 1))
    dataset = open_dataset(path)
    assert [dataset.length(index) for index in range(3)] == [12, 7, 8]
    np.testing.assert_array_equal(dataset.episode(2).actions, episode(9, 2).actions[:8])
    assert len(dataset.episode(2).views["top"]) == 8
    assert {(note.kind, note.episodes) for note in dataset.notes} == {("mended", (2,))}


def test_an_episode_that_lost_many_rows_is_left_out(path):
    """Which of its frames are those of the rest is not known."""
    edit(path / DATA, lambda table: table.slice(0, table.num_rows - 4))
    dataset = open_dataset(path)
    assert [dataset.number(index) for index in range(len(dataset))] == [0, 1]
    assert "9 frames of an episode of 5 steps" in str(dataset.notes[-1])


def test_a_video_shorter_than_its_episodes_costs_those_that_it_lacks(path, tmp_path):
    shorter = write(tmp_path / "shorter", [episode(12, 0)])
    (path / VIDEO).write_bytes((shorter / VIDEO).read_bytes())
    dataset = open_dataset(path)
    assert [dataset.number(index) for index in range(len(dataset))] == [0]
    assert len(dataset.episode(0).views["top"]) == 12
    (lost,) = [note for note in dataset.notes if note.kind == "left out"]
    assert lost.episodes == (1, 2)
    assert f"{VIDEO}: ends after 12 frames, before" in lost.text or "after the last of the 12 frames" in lost.text


@pytest.mark.parametrize("file", [DATA, EPISODES, VIDEO])
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:500])])
def test_missing_and_truncated_files_are_named(path, file, damage):
    damage(path / file)
    try:
        told = [str(note) for note in open_dataset(path).notes]
    except UserError as error:
        told = [str(error)]
    # A folder without tables of episodes has no name of one.
    assert any(str(path / file) in line or str((path / file).parents[1]) in line for line in told)


def test_without_its_list_of_episodes_the_rows_tell(path):
    """As after a recording that was killed: lerobot writes the list last."""
    shutil.rmtree(path / "meta/episodes")
    dataset = open_dataset(path)
    assert dataset.tasks == ("press the button", "open it")
    for index, made in enumerate([episode(12, 0), episode(7, 1, instruction="open it"), episode(9, 2)]):
        read = dataset.episode(index)
        assert (len(read), read.instruction) == (len(made), made.instruction)
        np.testing.assert_array_equal(read.actions, made.actions)
        assert np.abs(read.views["top"].astype(int) - made.views["top"]).mean() < 3


def test_rows_that_are_not_listed_are_read(path):
    edit(path / EPISODES, lambda table: table.slice(0, 2))
    edit_info(path, total_episodes=2, total_frames=19)
    dataset = open_dataset(path)
    assert len(dataset) == 3
    np.testing.assert_array_equal(dataset.episode(2).actions, episode(9, 2).actions)
    assert np.abs(dataset.episode(2).views["top"].astype(int) - episode(9, 2).views["top"]).mean() < 3
    assert [note.episodes for note in dataset.notes if "does not list episodes" in note.text] == [(2,)]


def test_a_newer_version_is_refused(path):
    edit_info(path, codebase_version="v4.0")
    with pytest.raises(UserError, match=r"info\.json: version v4\.0.*newer than this program"):
        open_dataset(path)


@pytest.mark.parametrize("version", ["v2.1", "1", ""])
def test_files_count_more_than_the_version_that_is_said(path, version):
    edit_info(path, codebase_version=version)
    dataset = open_dataset(path)
    np.testing.assert_array_equal(dataset.episode(2).actions, episode(9, 2).actions)
    assert "read as v3.0, as its files are" in str(dataset.notes[0])


def test_what_is_older_than_is_read_is_refused(path):
    edit_info(path, codebase_version="v1.6")
    shutil.rmtree(path / "meta/episodes")
    with pytest.raises(UserError, match=r"info\.json: version v1\.6.*converter"):
        open_dataset(path)


def test_a_description_that_is_none_is_refused(path):
    for text in ("[]", "{}", "{", '{"codebase_version": "v3.0"}'):
        (path / spec.INFO).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"info\.json"):
            open_dataset(path)


def test_an_empty_data_set_is_refused(path):
    edit(path / EPISODES, lambda table: table.slice(0, 0))
    edit(path / DATA, lambda table: table.slice(0, 0))
    with pytest.raises(UserError, match="holds no episodes"):
        open_dataset(path)


def test_counts_that_disagree_are_told(path):
    edit_info(path, total_frames=27, total_episodes=5)
    dataset = open_dataset(path)
    assert len(dataset) == 3
    assert [str(note).split(": ")[1] for note in dataset.notes] == [
        "says 5 episodes, but there are 3; what is there counts",
        "says 27 frames, but there are 28; what is there counts",
    ]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("../elsewhere/file-{file_index:03d}.parquet", "leads out of the data set"),
        ("data/../../file-{file_index}.parquet", "leads out of the data set"),
        ("/etc/file-{file_index:03d}.parquet", "leads out of the data set"),
    ],
)
@pytest.mark.parametrize("entry", ["data_path", "video_path"])
def test_a_description_has_no_say_over_other_places(path, entry, template, message):
    edit_info(path, **{entry: template})
    with pytest.raises(UserError, match=message):
        open_dataset(path)


@pytest.mark.parametrize("template", ["data/file-{file_index:09999999999d}.x", "data/{file_index.__class__}", "{x}", 7])
@pytest.mark.parametrize("entry", ["data_path", "video_path"])
def test_a_template_that_is_none_gives_way_to_the_usual_one(path, entry, template):
    edit_info(path, **{entry: template})
    dataset = open_dataset(path)
    np.testing.assert_array_equal(dataset.episode(2).actions, episode(9, 2).actions)
    assert len(dataset.episode(2).views["top"]) == 9
    assert f"{entry} is {json.dumps(template)}, which names no file" in str(dataset.notes[0])
