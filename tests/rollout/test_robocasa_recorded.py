"""A dry run of RoboCasa: all of an evaluation but the simulator, in whose place a recording shows what it saw."""

import json

import h5py
import numpy as np
import pytest
from tests.datasets.hdf5 import recorded, write_robocasa
from tests.small import SIZE, small_model

from videopolicy.clips.normalize import Normalizer
from videopolicy.datasets import robomimic
from videopolicy.envs import robocasa
from videopolicy.envs.robocasa import VIEWS
from videopolicy.envs.robocasa.tasks import RELEASES
from videopolicy.policies.base import derive_seed
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.rollout.protocols import load
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.settings import Settings
from videopolicy.types import Observation

TASK, HORIZON, EXECUTE, SEED = "OpenDrawer", 8, 4, 1_000_023
PROTOCOL = f"""
title = "One recording"
env = "robocasa"
episodes = 1
execute = {EXECUTE}

[[task]]
name = "{TASK}"
horizon = {HORIZON}
seeds = [{SEED}]
"""


class Recording:
    """Stands where robosuite's environment and its simulator stand; keeps the actions that it is given."""

    def __init__(self, file):
        with h5py.File(file) as root:
            demo = root["data/demo_0"]
            self._seen = {name: np.asarray(values) for name, values in demo["obs"].items()}
            self._about = json.loads(demo.attrs["ep_meta"])
        self.sim, self.given = self, []

    def reset(self):
        self.given.clear()
        return self._now()

    def step(self, action):
        self.given.append(action)
        return self._now(), 0.0, False, {}

    def render(self, camera_name, width, height):
        image = self._now()[f"{camera_name}_image"]
        assert image.shape == (height, width, 3)
        # As OpenGL hands it out, before anybody turned it.
        return image[::-1]

    def get_ep_meta(self):
        return self._about

    def close(self):
        pass

    def _check_success(self):
        return False

    def _now(self):
        return {name: values[len(self.given)] for name, values in self._seen.items()}


@pytest.fixture
def file(tmp_path):
    return write_robocasa(tmp_path / "demo.hdf5", recorded(), TASK)


@pytest.fixture
def simulator(file, monkeypatch):
    """The recording, opened by the env instead of RoboCasa."""
    opened = Recording(file)
    monkeypatch.setattr(robocasa, "prepare", lambda: None)
    monkeypatch.setattr(robocasa, "installed", lambda: ("0.2.0", RELEASES["0.2.0"]))
    monkeypatch.setattr(robocasa, "_open", lambda task, release: opened)
    return opened


def policy_for(dataset):
    """Random weights that see the three views and act as the recordings do."""
    actions = np.concatenate([dataset.episode(index, ()).actions for index in range(len(dataset))])
    made = small_model(Normalizer.fit(actions), views=VIEWS, action_layout=dataset.action_layout, fps=dataset.fps)
    return CheckpointPolicy(made, made.config.sampling)


def test_what_was_recorded_goes_through_env_policy_and_runner_to_the_robot(simulator, file, tmp_path, threads):
    dataset = robomimic.open_dataset(file)
    policy, episode = policy_for(dataset), dataset.episode(0)
    assert (policy.spec.views, policy.spec.size, policy.spec.action_width) == (VIEWS, SIZE, 7)
    (tmp_path / "recording.toml").write_text(PROTOCOL, encoding="utf-8")
    protocol = load(str(tmp_path / "recording.toml"))
    settings = Settings("robocasa", (TASK,), 1, EXECUTE, record=0, protocol=protocol)
    (result,) = evaluate(policy, settings, tmp_path / "out", place=threads).rows
    assert (result.seed, result.ended, result.steps, result.plans) == (SEED, "horizon", HORIZON, HORIZON // EXECUTE)
    # Ten episodes a kitchen: this one is in the third.
    assert (simulator.layout_and_style_ids, simulator.obj_instance_split) == ([(4, 4)], "B")

    # The same plans come from the data set, as training sees it: pictures, words and actions mean the same in both.
    given, noise = np.array(simulator.given), derive_seed(settings.seed, TASK, 0)
    planned = []
    for number, step in enumerate(range(0, HORIZON, EXECUTE)):
        images = {view: frames[step] for view, frames in episode.views.items()}
        seen = Observation(images, episode.instruction, episode.states[step])
        (plan,) = policy.plan([seen], [derive_seed(noise, number)], imagine=False)
        planned.append(plan.actions[:EXECUTE])
    np.testing.assert_array_equal(given[:, :7], np.concatenate(planned))
    # The five that the policy does not learn are those of every recorded step.
    with h5py.File(file) as root:
        np.testing.assert_array_equal(given[:, 7:], root["data/demo_0/actions"][:HORIZON, 7:])
    assert given.shape == (HORIZON, 12) and np.isfinite(given).all() and np.ptp(given[:, :7], axis=0).max() > 0
    assert (np.abs(given) <= 1).all()
