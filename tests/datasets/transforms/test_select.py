import numpy as np
import pytest

from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.transforms.select import Selection
from videopolicy.errors import UserError
from videopolicy.types import Episode


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("selection") / "datasets"
    with Writer(path, 10, ("left", "right")) as writer:
        for task in ("push", "pull"):
            frames = {view: rng.integers(256, size=(6, 16, 16, 3), dtype=np.uint8) for view in ("left", "right")}
            writer.add(Episode(frames, f"{task} the cube", 10, rng.normal(size=(6, 2)).astype(np.float32), task=task))
    return open_dataset(path)


def test_views_go_under_their_new_names(dataset):
    shown = Selection(dataset, {"wrist": "right", "copy": "right"})
    assert shown.views == ("wrist", "copy")
    episode, own = shown.episode(0, start=2, stop=4), dataset.episode(0)
    for view in shown.views:
        np.testing.assert_array_equal(episode.views[view], own.views["right"][2:4])
    np.testing.assert_array_equal(episode.actions, own.actions[2:4])


@pytest.mark.parametrize("wanted", ["push", "push the cube"])
def test_only_the_named_tasks_keep_their_actions(dataset, wanted):
    shown = Selection(dataset, actions_for=[wanted])
    assert shown.action_width == 2
    np.testing.assert_array_equal(shown.episode(0).actions, dataset.episode(0).actions)
    assert shown.episode(1).actions is None
    assert len(shown.episode(1)) == 6


def test_without_any_tasks_it_is_a_data_set_of_video(dataset):
    shown = Selection(dataset, actions_for=())
    assert shown.action_width is None
    assert all(shown.episode(index).actions is None for index in range(len(shown)))


def with_actions(shown):
    return {index for index in range(len(shown)) if shown.episode(index).actions is not None}


def test_only_the_numbered_episodes_keep_their_actions(dataset):
    assert with_actions(Selection(dataset, actions_of=[1])) == {1}
    assert with_actions(Selection(dataset, actions_for=["push"], actions_of=[0, 1])) == {0}
    assert with_actions(Selection(dataset, actions_for=["push"], actions_of=[1])) == set()
    np.testing.assert_array_equal(
        Selection(dataset, actions_of=[1]).episode(1, start=1, stop=3).actions, dataset.episode(1).actions[1:3]
    )


def test_without_any_numbers_it_is_a_data_set_of_video(dataset):
    shown = Selection(dataset, actions_of=())
    assert shown.action_width is None and with_actions(shown) == set()


def test_each_selection_has_a_fingerprint_of_its_own(dataset):
    told = [{}, {"views": {"left": "right"}}, {"actions_for": ["push"]}, {"actions_of": [0]}, {"actions_of": [1]}]
    told += [{"actions_for": ["push"], "actions_of": [0]}, {"actions_for": ["push"], "actions_of": [0, 1]}]
    prints = [Selection(dataset, **one).fingerprint for one in told]
    assert len(set(prints)) == len(prints)
    assert Selection(dataset, actions_of=[1, 0]).fingerprint == Selection(dataset, actions_of=[0, 1]).fingerprint


def test_views_that_are_not_there_are_refused(dataset):
    with pytest.raises(UserError, match="'above'"):
        Selection(dataset, {"top": "above"})
    with pytest.raises(UserError, match="'left'"):
        Selection(dataset, {"top": "left"}).episode(0, ["left"])
