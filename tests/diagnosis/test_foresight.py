from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from tests.rollout.seeing import find

from videopolicy import registry
from videopolicy.diagnosis.foresight import has_expert, look_ahead, play
from videopolicy.envs.pointmass import DOT, HALF_WIDTHS, STRIDE
from videopolicy.errors import UserError
from videopolicy.rollout.results import HORIZON, Result
from videopolicy.rollout.settings import Settings
from videopolicy.rollout.workers import Setup
from videopolicy.types import Plan

SEED = 1_000_004
ENVS = [
    ("pointmass", "reach-red", ("top",)),
    pytest.param("metaworld", "drawer-open-v3", ("corner2", "gripperPOV"), marks=pytest.mark.metaworld),
    pytest.param("metaworld", "push-v3", ("corner2",), marks=pytest.mark.metaworld),
]


def opened(name, task, views):
    env = registry.build("envs", name, task, views=views, size=32)
    env.reset(seed=SEED)
    return env


def go(env, actions):
    return [env.step(action)[0] for action in actions], env.observe().images


def seen(images):
    return np.concatenate([image.ravel() for image in images.values()])


@pytest.mark.parametrize(("name", "task", "views"), ENVS)
def test_to_have_looked_ahead_changes_nothing_that_follows(name, task, views):
    looking, other = opened(name, task, views), opened(name, task, views)
    rng = np.random.default_rng(0)
    before, after = rng.uniform(-1, 1, (2, 15, *other.action_space.shape)).astype(np.float32)
    for env in (looking, other):
        go(env, before)
    look_ahead(looking, SEED, before, (0, 8, 20))
    np.testing.assert_array_equal(seen(looking.observe().images), seen(other.observe().images))
    (states, images), (states_of_other, images_of_other) = go(looking, after), go(other, after)
    np.testing.assert_array_equal(states, states_of_other)
    np.testing.assert_array_equal(seen(images), seen(images_of_other))
    if name == "metaworld":
        for field in ("qpos", "qvel", "mocap_pos", "qacc_warmstart", "time"):
            one, two = (getattr(env._env.data, field) for env in (looking, other))
            np.testing.assert_array_equal(one, two)
    looking.close()
    other.close()


@pytest.mark.parametrize(("name", "task", "views"), ENVS)
def test_what_is_seen_ahead_is_what_the_expert_does(name, task, views):
    env = opened(name, task, views)
    ahead = look_ahead(env, SEED, [], (0, 0, 3, 9))
    expert, frames = env.expert(), []
    for _ in range(10):
        frames.append(env.observe().images)
        env.step(expert())
    for view in views:
        np.testing.assert_array_equal(ahead[view], np.stack([frames[step][view] for step in (0, 0, 3, 9)]))
    env.close()


@dataclass
class Head:
    """Reads actions out of frames of the point-mass env: those that move the dot as they show, or something else."""

    act: Callable

    offsets = (1, 2, 3, 4)
    model = SimpleNamespace(config=SimpleNamespace(window=SimpleNamespace(offsets=offsets)))

    def latents_of(self, frames):
        return frames["top"]

    def plan(self, observation, seed, video):
        return Plan(self.act(video).astype(np.float32))


def follow(video):
    places = np.array([find(image, DOT, HALF_WIDTHS["top"]) for image in video])
    return np.diff(places, axis=0) / STRIDE


@pytest.mark.parametrize(("act", "succeeds"), [(follow, True), (lambda video: np.zeros((4, 2)), False)])
def test_a_head_that_follows_the_video_succeeds_with_the_true_one_and_one_that_does_not_fails(act, succeeds):
    env = registry.build("envs", "pointmass", "reach-blue", views=("top",), size=64)
    env.horizon = 60
    settings = Settings("pointmass", ("reach-blue",), execute=4)
    setup = Setup("pointmass", ("top",), 64, "chunked", 4, 0)
    before = Result("reach-blue", 2, SEED, False, 60, 1.0, 15, False, 0, HORIZON)
    after = play(env, Head(act), setup, settings, before)
    assert after.success == succeeds
    assert (after.task, after.episode, after.seed) == (before.task, before.episode, before.seed)
    assert after.steps == 60 or succeeds
    assert after.plans == -(-after.steps // 4)


def test_an_env_without_an_expert_is_noticed():
    env = registry.build("envs", "pointmass", "reach-red", size=32)
    assert has_expert(env)

    def refuse():
        raise UserError("reach-red has no scripted expert")

    env.expert = refuse
    assert not has_expert(env)
