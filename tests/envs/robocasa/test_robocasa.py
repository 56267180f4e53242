"""What can be said of RoboCasa without RoboCasa. With it, tests/contracts/test_envs.py runs too."""

import re
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from tests.datasets.hdf5 import recorded, write_robocasa

from videopolicy import registry
from videopolicy.datasets import robomimic
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, prepare
from videopolicy.envs.robocasa import TASKS, VIEWS, RoboCasa, check_assets, check_versions, scene
from videopolicy.envs.robocasa.tasks import KITCHENS, RELEASES
from videopolicy.envs.robocasa.tasks import TASKS as TABLE
from videopolicy.envs.robosuite_env import state
from videopolicy.errors import UserError
from videopolicy.rollout.protocols import load

OLD, NEW = RELEASES["0.2.0"], RELEASES["1.0.1"]
absent = pytest.mark.skipif(find_spec("robocasa") is not None, reason="RoboCasa is installed here")


def evaluation(release, episodes=50):
    return [scene(EVALUATION_SEED_OFFSET + episode, release) for episode in range(episodes)]


def test_there_are_24_tasks_and_the_new_names_lead_back_to_each():
    assert len(TASKS) == 24
    back = {(task.renamed, task.door): name for name, task in TABLE.items()}
    assert {name: back[task.renamed, task.door] for name, task in TABLE.items()} == {name: name for name in TASKS}


def test_only_what_was_renamed_differs_in_the_new_names():
    """v1.x spells out what v0.2 shortens, and calls the coffee machine's button and cabinets by what they do."""
    for name, task in TABLE.items():
        spelt = re.sub("Cab(?=$|To)", "Cabinet", name.replace("PnP", "PickPlace"))
        if task.door:
            assert task.renamed == re.sub("(Single|Double)Door", "Cabinet", name)
            assert task.door.split("_")[1].title() in name
        elif name != "CoffeePressButton":
            assert task.renamed == spelt


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_ten_episodes_play_in_each_kitchen_with_objects_that_no_demonstration_shows(release):
    scenes = evaluation(release)
    for number, (layout, style) in enumerate(KITCHENS):
        expected = (layout + release.first, style + release.first), release.unseen
        assert scenes[10 * number : 10 * number + 10] == [expected] * 10
    assert evaluation(release, 100)[50:] == scenes


def test_other_seeds_draw_every_kitchen_and_show_only_the_objects_of_the_demonstrations():
    drawn = [scene(seed, OLD) for seed in range(60)]
    assert {kitchen for kitchen, _ in drawn} == set(KITCHENS)
    assert {split for _, split in drawn} == {"A"}
    assert drawn == [scene(seed, OLD) for seed in range(60)]


def test_the_arms_action_becomes_the_robots_and_nothing_else_moves():
    action = np.linspace(-1, 1, 7, dtype=np.float32)
    whole = RoboCasa.whole(None, action)
    np.testing.assert_array_equal(whole[:7], action)
    np.testing.assert_array_equal(whole[7:], [0, 0, 0, 0, -1])


def test_the_world_and_the_data_set_see_the_same_in_one_observation(tmp_path):
    """A recorded observation, with RoboCasa's keys and shapes, through the env's code and through the reader's."""
    file = write_robocasa(tmp_path / "demo.hdf5", recorded(), "OpenDrawer")
    dataset = robomimic.open_dataset(file)
    episode = dataset.episode(0)
    with h5py.File(file) as root:
        recorded_observations = root["data/demo_0/obs"]
        for step in range(len(episode)):
            observation = {key: np.asarray(values[step]) for key, values in recorded_observations.items()}
            np.testing.assert_array_equal(state(observation), episode.states[step])
    assert set(dataset.views) == set(VIEWS)
    meaning = dataset.action_layout, dataset.state_layout, dataset.fps
    assert (RoboCasa.action_layout, RoboCasa.state_layout, RoboCasa.fps) == meaning


def test_the_protocol_is_the_papers():
    protocol = load("robocasa24")
    assert [task.name for task in protocol.tasks] == list(TASKS)
    assert protocol.episodes == 10 * len(KITCHENS)
    for task in protocol.tasks:
        assert task.horizon % protocol.execute == 0 and task.horizon <= 1000 < task.horizon + protocol.execute


@absent
def test_without_robocasa_it_says_what_is_needed():
    with pytest.raises(UserError, match=r"needs RoboCasa 0\.2\.0 or 1\.0\.1 .*docs/robocasa\.md") as caught:
        registry.build("envs", "robocasa", "OpenDrawer")
    assert "\n" not in str(caught.value)


def test_an_unknown_task_view_or_size_is_refused_first():
    with pytest.raises(UserError, match="'PnPCounterToCabinet'; did you mean 'PnPCounterToCab'"):
        prepare("robocasa", ["PnPCounterToCabinet"], [], 64)
    with pytest.raises(UserError, match="no view 'agentview'"):
        prepare("robocasa", ["OpenDrawer"], ["agentview"], 64)
    with pytest.raises(UserError, match="8 to 1024"):
        registry.build("envs", "robocasa", "OpenDrawer", size=4)


def test_a_version_that_was_not_checked_is_refused():
    with pytest.raises(UserError, match=r"RoboCasa 0\.1\.0 .* checked with 0\.2\.0 and 1\.0\.1"):
        check_versions("0.1.0", OLD.pins.get)


@pytest.mark.parametrize("name", RELEASES)
def test_packages_of_other_versions_are_named_and_the_right_ones_pass(name):
    right = RELEASES[name].pins
    assert check_versions(name, right.get) is RELEASES[name]
    for package, version in right.items():
        with pytest.raises(UserError, match=f"{package} {re.escape(version)}, not 9.9;"):
            check_versions(name, {**right, package: "9.9"}.get)
    with pytest.raises(UserError, match=r"mujoco .*, not absent"):
        check_versions(name, {**right, "mujoco": None}.get)


def test_assets_are_asked_for_until_all_of_them_are_there(tmp_path):
    files = "textures/a.png", "fixtures/accessories/outlets/white/visuals/a.obj", "objects/objaverse/apple/model.xml"
    for file in files:
        with pytest.raises(UserError, match=r"no kitchen assets: .*download_kitchen_assets brings them"):
            check_assets(OLD, tmp_path)
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    check_assets(OLD, tmp_path)
    with pytest.raises(UserError, match="objects/lightwheel"):
        check_assets(NEW, tmp_path)
