import numpy as np
import pytest

from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.transforms.relabel import Relabeled
from videopolicy.errors import UserError
from videopolicy.types import Episode


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("relabel") / "datasets"
    with Writer(path, 10, ("top",)) as writer:
        for instruction in ("push it", "shove it", "pull it"):
            frames = {"top": np.zeros((3, 16, 16, 3), np.uint8)}
            writer.add(Episode(frames, instruction, 10, np.zeros((3, 4), np.float32)))
    return open_dataset(path)


def test_instructions_are_replaced_and_may_become_one(dataset):
    shown = Relabeled(dataset, {"shove it": "push it"})
    assert shown.tasks == ("push it", "pull it")
    assert [shown.episode(index, ()).instruction for index in range(3)] == ["push it", "push it", "pull it"]
    assert shown.fingerprint != dataset.fingerprint


def test_what_actions_mean_is_told(dataset):
    shown = Relabeled(dataset, {}, "delta_position  gripper[-1,1]")
    assert shown.action_layout == "delta_position gripper[-1,1]"
    assert shown.state_layout == dataset.state_layout


def test_what_the_data_set_says_itself_is_not_contradicted(tmp_path):
    own = "delta_position gripper[-1,1]"
    with Writer(tmp_path / "d", 10, ("top",), action_layout=own) as writer:
        writer.add(Episode({"top": np.zeros((3, 16, 16, 3), np.uint8)}, "push it", 10, np.zeros((3, 4), np.float32)))
    dataset = open_dataset(tmp_path / "d")
    assert Relabeled(dataset, {}, "delta_position  gripper[-1.0,1]").action_layout == own
    with pytest.raises(UserError, match=r"the source says 'delta_position gripper\[-1,1\]'; leave --action-layout out"):
        Relabeled(dataset, {}, "delta_position gripper[1,-1]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"push": "x"},), "no instruction 'push'; did you mean 'push it'"),
        (({}, "position"), "has 3 dimensions, but its actions have 4"),
        (({}, "", "position"), "has 3 dimensions, but it has no states"),
        (({}, "nonsense"), "no action layout has the word"),
    ],
)
def test_what_does_not_fit_is_refused(dataset, arguments, message):
    with pytest.raises(UserError, match=message):
        Relabeled(dataset, *arguments)
