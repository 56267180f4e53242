"""What every data format must keep, on its `EXAMPLE`: a function that writes episodes to a path in that format."""

import shutil

import numpy as np
import pytest
from tests.contracts.plugins import example, skip_unless_it_can_run

from videopolicy import registry
from videopolicy.datasets.conversion.convert import convert
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.errors import UserError
from videopolicy.types import Episode

FPS = 10
LENGTHS = (5, 8, 3)


def episode(length, seed):
    """A bright square that wanders over a grey ground, seen from two sides."""
    rng = np.random.default_rng(seed)
    frames = np.full((length, 48, 64, 3), 100, np.uint8)
    for step in range(length):
        frames[step, 8 + 2 * step : 24 + 2 * step, 4 * seed : 4 * seed + 16] = (230, 200, 40)
    return Episode(
        {"left": frames, "right": np.ascontiguousarray(frames[:, :, ::-1])},
        ("push the cube", "pull the cube")[seed % 2],
        FPS,
        rng.normal(size=(length, 3)).astype(np.float32),
        rng.normal(size=(length, 2)).astype(np.float32),
    )


EPISODES = [episode(length, seed) for seed, length in enumerate(LENGTHS)]


@pytest.fixture(params=registry.names("datasets"), scope="module")
def name(request):
    skip_unless_it_can_run("datasets", request.param)
    return request.param


@pytest.fixture(scope="module")
def written(name, tmp_path_factory):
    """The path of a data set, and the episodes that must come back from it: all that the format can hold."""
    path = tmp_path_factory.mktemp(name) / "datasets"
    return path, example("datasets", name)(path, EPISODES)


@pytest.fixture(scope="module")
def path(written):
    return written[0]


@pytest.fixture(scope="module")
def recorded(written):
    return written[1]


@pytest.fixture
def dataset(name, path):
    return registry.build("datasets", name, path)


def width(values):
    return None if values is None else values.shape[1]


def read_all(name, path):
    dataset = registry.build("datasets", name, path)
    return [dataset.episode(index) for index in range(len(dataset))]


def assert_equal(read, other):
    assert read.instruction == other.instruction
    for view, frames in read.views.items():
        np.testing.assert_array_equal(frames, other.views[view])
    np.testing.assert_array_equal(read.actions, other.actions)
    np.testing.assert_array_equal(read.states, other.states)


def test_it_describes_itself_without_decoding(dataset, path, recorded):
    assert dataset.path == path
    assert len(dataset) == len(recorded)
    assert sorted(dataset.views) == sorted(recorded[0].views)
    assert dataset.action_width == width(recorded[0].actions)
    assert dataset.state_width == width(recorded[0].states)
    assert dataset.fps == FPS
    assert tuple(dataset.length(index) for index in range(len(dataset))) == LENGTHS
    assert set(dataset.tasks) == {"push the cube", "pull the cube"}


def test_episodes_come_back_as_they_were_recorded(dataset, recorded):
    for index, one in enumerate(recorded):
        read = dataset.episode(index)
        assert len(read) == len(one)
        assert read.instruction == one.instruction
        assert read.fps == FPS
        for view, frames in one.views.items():
            assert read.views[view].dtype == np.uint8
            assert read.views[view].shape == frames.shape
            assert np.abs(read.views[view].astype(int) - frames).mean() < 3
        assert (read.actions is None) == (dataset.action_width is None)
        assert (read.states is None) == (dataset.state_width is None)
        if read.actions is not None:
            assert read.actions.dtype == np.float32
            np.testing.assert_allclose(read.actions, one.actions, rtol=1e-6)
        if read.states is not None:
            assert read.states.dtype == np.float32
            np.testing.assert_allclose(read.states, one.states, rtol=1e-6)


def test_only_the_views_asked_for_are_decoded(dataset, recorded):
    last = list(recorded[1].views)[-1]
    assert tuple(dataset.episode(1, [last]).views) == (last,)
    np.testing.assert_array_equal(dataset.episode(1, [last]).views[last], dataset.episode(1).views[last])
    assert not dataset.episode(1, []).views


def test_a_part_of_an_episode_is_that_part_of_the_whole(dataset):
    whole = dataset.episode(1)
    part = dataset.episode(1, start=2, stop=7)
    assert len(part) == 5
    for view, frames in part.views.items():
        np.testing.assert_array_equal(frames, whole.views[view][2:7])
    for values, all_values in ((part.actions, whole.actions), (part.states, whole.states)):
        np.testing.assert_array_equal(values, None if all_values is None else all_values[2:7])
    assert len(dataset.episode(1, start=6, stop=100)) == LENGTHS[1] - 6


def test_the_order_of_reading_does_not_matter(name, path):
    forwards = read_all(name, path)
    dataset = registry.build("datasets", name, path)
    for index in reversed(range(len(dataset))):
        assert_equal(dataset.episode(index), forwards[index])


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(name, dataset, path, tmp_path):
    example("datasets", name)(tmp_path / "shorter", EPISODES[:2])
    assert registry.build("datasets", name, path).fingerprint == dataset.fingerprint
    assert registry.build("datasets", name, tmp_path / "shorter").fingerprint != dataset.fingerprint


def test_a_conversion_holds_the_same_but_for_the_loss_of_video(dataset, path, tmp_path):
    outcome = convert(ConversionSource(path), tmp_path / "converted", 1)
    written = registry.build("datasets", "lerobot", tmp_path / "converted")
    assert (outcome.episodes, written.views, written.fps) == (len(dataset), dataset.views, dataset.fps)
    assert (written.action_layout, written.state_layout) == (dataset.action_layout, dataset.state_layout)
    for index in range(len(dataset)):
        read, own = written.episode(index), dataset.episode(index)
        assert read.instruction == own.instruction
        np.testing.assert_array_equal(read.actions, own.actions)
        np.testing.assert_array_equal(read.states, own.states)
        for view, frames in own.views.items():
            assert read.views[view].shape == frames.shape
            assert np.abs(read.views[view].astype(int) - frames).mean() < 3


def test_an_unknown_view_is_refused(dataset):
    with pytest.raises(UserError, match="'above'"):
        dataset.episode(0, ["above"])


def test_what_is_no_data_set_is_refused_by_its_path(name, tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match=path.name):
            registry.build("datasets", name, path)


def test_damage_to_any_file_is_told_and_costs_no_other_episode(name, path, tmp_path):
    undamaged = dict(enumerate(read_all(name, path)))
    noticed = 0
    for number, file in enumerate(sorted(file for file in path.rglob("*") if file.is_file())):
        copy = tmp_path / str(number)
        shutil.copytree(path, copy)
        damaged = copy / file.relative_to(path)
        damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
        try:
            dataset = registry.build("datasets", name, copy)
            read = {dataset.number(index): dataset.episode(index) for index in range(len(dataset))}
        except UserError as error:
            assert str(copy) in str(error)
            noticed += 1
            continue
        lost = [note for note in dataset.notes if note.kind == "left out"]
        told = [note for note in dataset.notes if note.kind in ("left out", "mended")]
        noticed += bool(told)
        assert all(str(copy) in note.text for note in told)
        assert set(read) == set(undamaged) - {number for note in lost for number in note.episodes}
        for number, one in read.items():
            assert_equal(one, undamaged[number])
    assert noticed
