import multiprocessing
from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from videopolicy import registry
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.errors import UserError
from videopolicy.rollout.demonstrate import AFTER_SUCCESS, DemonstrationJob, record, record_episode

pytestmark = pytest.mark.slow

WHAT = DemonstrationJob("pointmass", "reach-red", ("top",), 32, noise=0.3, steps=5)


@pytest.fixture
def env():
    return registry.build("envs", "pointmass", "reach-red", size=32)


def take(what, count, workers=1, first=0):
    with closing(record(what, first, workers)) as episodes:
        return list(islice(episodes, count))


def test_frame_and_state_n_were_seen_before_action_n(env):
    episode = record_episode(env, seed=3, noise=0, steps=5)
    state, _ = env.reset(seed=3)
    for step, action in enumerate(episode.actions):
        np.testing.assert_array_equal(episode.states[step], state)
        for view, image in env.observe().images.items():
            np.testing.assert_array_equal(episode.views[view][step], image)
        state, *_ = env.step(action)


def test_the_label_is_what_the_expert_said_where_it_really_was(env):
    """With noise, the way goes elsewhere, yet each action is the expert's for the state that was reached."""
    clean = record_episode(env, seed=3, noise=0, steps=5)
    noisy = record_episode(env, seed=3, noise=0.5, steps=5)
    assert not np.array_equal(noisy.states[3], clean.states[3])
    generator = np.random.default_rng([3, 1])
    env.reset(seed=3)
    expert = env.expert()
    for step, action in enumerate(noisy.actions):
        np.testing.assert_array_equal(action, expert())
        executed = np.clip(action + 0.5 * generator.standard_normal(2), -1, 1).astype(np.float32)
        state, *_ = env.step(executed)
        if step + 1 < len(noisy):
            np.testing.assert_array_equal(noisy.states[step + 1], state)


def test_an_episode_goes_on_a_little_after_success_but_not_past_the_horizon(env):
    def length(steps):
        return len(record_episode(env, seed=3, noise=0, steps=steps))

    reached = length(1) - AFTER_SUCCESS
    assert 0 < reached < env.horizon
    assert length(reached + AFTER_SUCCESS + 2) == reached + AFTER_SUCCESS + 2
    assert length(env.horizon + 9) == env.horizon


def test_an_expert_that_is_shaken_off_is_a_failure_of_full_length(env):
    failed = [record_episode(env, seed, noise=30, steps=5) for seed in range(10)]
    assert any(episode.success is False and len(episode) == env.horizon for episode in failed)


def test_episodes_do_not_depend_on_the_number_of_workers():
    one, three = take(WHAT, 5, workers=1), take(WHAT, 5, workers=3)
    assert [episode.seed for episode in three] == list(range(5))
    for first, second in zip(one, three, strict=True):
        np.testing.assert_array_equal(first.actions, second.actions)
        np.testing.assert_array_equal(first.views["top"], second.views["top"])


def test_seeds_of_evaluation_are_never_used():
    last = EVALUATION_SEED_OFFSET - 1
    with closing(record(WHAT, last, 1)) as episodes, pytest.raises(UserError, match="kept for evaluation"):
        list(islice(episodes, 10))


def test_the_death_of_a_process_is_said_here():
    with closing(record(WHAT, 0, 1)) as episodes:
        next(episodes)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(
            UserError, match=r"from seed \d+ died \(SIGKILL\), often for lack of memory; fewer --workers"
        ):
            list(islice(episodes, 10))


def test_what_is_wrong_in_a_worker_is_said_here():
    with pytest.raises(UserError, match="nonesuch"):
        take(DemonstrationJob("pointmass", "nonesuch", (), 32, 0.1, 5), 1)
