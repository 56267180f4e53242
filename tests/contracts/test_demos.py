"""What every file in `videopolicy/demos` that opens a data set must keep, on the smallest one of its format."""

import shutil

import numpy as np
import pytest

from videopolicy import registry
from videopolicy.demos.lerobot_writer import Writer
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


def write_lerobot(path, episodes):
    with Writer(path, FPS, ("left", "right")) as writer:
        for one in episodes:
            writer.add(one)


# Format -> a function that writes these episodes to a path in that format.
EXAMPLES = {"lerobot": write_lerobot}


@pytest.fixture(params=registry.names("demos"), scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def path(name, tmp_path_factory):
    path = tmp_path_factory.mktemp(name) / "demos"
    EXAMPLES[name](path, EPISODES)
    return path


@pytest.fixture
def dataset(name, path):
    return registry.build("demos", name, path)


def read_all(name, path):
    dataset = registry.build("demos", name, path)
    return [dataset.episode(index) for index in range(len(dataset))]


def assert_equal(read, other):
    assert read.instruction == other.instruction
    for view, frames in read.views.items():
        np.testing.assert_array_equal(frames, other.views[view])
    np.testing.assert_array_equal(read.actions, other.actions)
    np.testing.assert_array_equal(read.states, other.states)


def test_it_describes_itself_without_decoding(dataset, path):
    assert dataset.path == path
    assert len(dataset) == len(EPISODES)
    assert sorted(dataset.views) == ["left", "right"]
    assert dataset.fps == FPS
    assert tuple(dataset.length(index) for index in range(len(dataset))) == LENGTHS
    assert set(dataset.tasks) == {"push the cube", "pull the cube"}


def test_episodes_come_back_as_they_were_recorded(dataset):
    for index, recorded in enumerate(EPISODES):
        read = dataset.episode(index)
        assert len(read) == len(recorded)
        assert read.instruction == recorded.instruction
        assert read.fps == FPS
        for view, frames in recorded.views.items():
            assert read.views[view].dtype == np.uint8
            assert read.views[view].shape == frames.shape
            assert np.abs(read.views[view].astype(int) - frames).mean() < 3
        assert (read.actions is None) == (dataset.action_width is None)
        assert (read.states is None) == (dataset.state_width is None)
        if read.actions is not None:
            assert read.actions.dtype == np.float32
            np.testing.assert_allclose(read.actions, recorded.actions, rtol=1e-6)
        if read.states is not None:
            assert read.states.dtype == np.float32
            np.testing.assert_allclose(read.states, recorded.states, rtol=1e-6)


def test_only_the_views_asked_for_are_decoded(dataset):
    assert tuple(dataset.episode(1, ["right"]).views) == ("right",)
    np.testing.assert_array_equal(dataset.episode(1, ["right"]).views["right"], dataset.episode(1).views["right"])


def test_the_order_of_reading_does_not_matter(name, path):
    forwards = read_all(name, path)
    dataset = registry.build("demos", name, path)
    for index in reversed(range(len(dataset))):
        assert_equal(dataset.episode(index), forwards[index])


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(name, dataset, path, tmp_path):
    EXAMPLES[name](tmp_path / "shorter", EPISODES[:2])
    assert registry.build("demos", name, path).fingerprint == dataset.fingerprint
    assert registry.build("demos", name, tmp_path / "shorter").fingerprint != dataset.fingerprint


def test_an_unknown_view_is_refused(dataset):
    with pytest.raises(UserError, match="'above'"):
        dataset.episode(0, ["above"])


def test_what_is_no_data_set_is_refused_by_its_path(name, tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match=path.name):
            registry.build("demos", name, path)


def test_damage_to_any_file_is_noticed_or_does_no_harm(name, path, tmp_path):
    undamaged = read_all(name, path)
    noticed = 0
    for number, file in enumerate(sorted(file for file in path.rglob("*") if file.is_file())):
        copy = tmp_path / str(number)
        shutil.copytree(path, copy)
        damaged = copy / file.relative_to(path)
        damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
        try:
            read = read_all(name, copy)
        except UserError as error:
            assert str(copy) in str(error)
            noticed += 1
        else:
            assert len(read) == len(undamaged)
            for one, other in zip(read, undamaged, strict=True):
                assert_equal(one, other)
    assert noticed
