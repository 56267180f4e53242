import numpy as np
import pytest

from videopolicy.actions.convert import convert
from videopolicy.actions.layout import Layout
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.transforms.action_layout import LayoutConverted
from videopolicy.errors import UserError
from videopolicy.types import Episode

ACTIONS, STATES = "position axis_angle gripper[-1,1]", "position quaternion"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("converted") / "datasets"
    with Writer(path, 10, ("top",), action_layout=ACTIONS, state_layout=STATES) as writer:
        frames = {"top": rng.integers(256, size=(6, 16, 16, 3), dtype=np.uint8)}
        vectors = [rng.uniform(0.1, 1, (6, 7)).astype(np.float32) for _ in range(2)]
        writer.add(Episode(frames, "push", 10, *vectors))
    return open_dataset(path)


def test_actions_and_states_are_shown_in_the_layouts_asked_for(dataset):
    layouts = "position rotation_6d gripper[0,1]", "position rotation_6d"
    shown = LayoutConverted(dataset, *layouts)
    assert (shown.action_layout, shown.state_layout) == layouts
    assert (shown.action_width, shown.state_width) == (10, 9)
    own, episode = dataset.episode(0, (), 1, 4), shown.episode(0, (), 1, 4)
    np.testing.assert_array_equal(episode.actions, convert(own.actions, *map(Layout.parse, (ACTIONS, layouts[0]))))
    np.testing.assert_array_equal(episode.states, convert(own.states, *map(Layout.parse, (STATES, layouts[1]))))
    assert shown.fingerprint != dataset.fingerprint


def test_what_is_not_asked_for_stays_to_the_bit(dataset):
    shown = LayoutConverted(dataset, state_layout="position axis_angle")
    np.testing.assert_array_equal(shown.episode(0, ()).actions, dataset.episode(0, ()).actions)
    assert (shown.action_layout, shown.action_width) == (ACTIONS, 7)


def test_a_layout_of_another_meaning_is_refused_by_the_data_set_and_the_reason(dataset):
    with pytest.raises(
        UserError, match=r"datasets: its states are 'position quaternion', but 'joints:7' is needed, and"
    ):
        LayoutConverted(dataset, state_layout="joints:7")
