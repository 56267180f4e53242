"""What every env must keep, on one task each: its `EXAMPLE`, or its first."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from tests.contracts.plugins import example, quick_and_slow, skip_unless_it_can_run

from videopolicy import registry
from videopolicy.actions.layout import Layout
from videopolicy.errors import UserError

SIZE = 48


@pytest.fixture(params=quick_and_slow("envs"), scope="module")
def name(request):
    skip_unless_it_can_run("envs", request.param)
    return request.param


@pytest.fixture(scope="module")
def module(name):
    return registry.module("envs", name)


@pytest.fixture(scope="module")
def task(name):
    return example("envs", name)


@pytest.fixture(scope="module")
def env(name, task):
    env = registry.build("envs", name, task, size=SIZE)
    yield env
    env.close()


def images(env, seed):
    env.reset(seed=seed)
    return dict(env.observe().images)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # gymnasium's advice on infinite bounds of the state
def test_it_is_a_gymnasium_environment(env):
    check_env(env, skip_render_check=True, skip_close_check=True)


def test_it_describes_itself(env, task):
    assert env.task == task
    assert env.instruction.strip()
    assert env.size == SIZE
    assert env.fps > 0
    assert env.horizon > 0
    assert env.action_space.dtype == env.observation_space.dtype == np.float32
    assert env.action_space.shape == (Layout.parse(env.action_layout).width,)
    assert env.observation_space.shape == (Layout.parse(env.state_layout).width,)


def test_it_shows_every_view_and_no_view_is_blank(env):
    state, _ = env.reset(seed=0)
    seen = env.observe()
    assert tuple(seen.images) == env.views
    assert seen.instruction == env.instruction
    assert np.array_equal(seen.state, state)
    for image in seen.images.values():
        assert image.dtype == np.uint8
        assert image.shape == (SIZE, SIZE, 3)
        assert image.std() > 1


def test_it_renders_only_the_views_it_was_asked_for(name, module, task):
    env = registry.build("envs", name, task, views=module.VIEWS[-1:], size=SIZE)
    env.reset(seed=0)
    assert tuple(env.observe().images) == module.VIEWS[-1:]


def test_a_seed_decides_the_episode_to_the_bit(env):
    actions = np.random.default_rng(0).uniform(-1, 1, (5, *env.action_space.shape)).astype(np.float32)

    def play():
        state, _ = env.reset(seed=3)
        return [state, *(env.step(action)[0] for action in actions)], env.observe().images

    (states, seen), (states_again, seen_again) = play(), play()
    np.testing.assert_array_equal(states, states_again)
    for view in env.views:
        np.testing.assert_array_equal(seen[view], seen_again[view])


def test_seeds_differ(env):
    first, second = images(env, 0), images(env, 1)
    assert any(not np.array_equal(first[view], second[view]) for view in env.views)


def test_images_are_not_overwritten_by_the_next_ones(env):
    before = images(env, 0)
    kept = {view: image.copy() for view, image in before.items()}
    images(env, 1)
    for view in env.views:
        np.testing.assert_array_equal(before[view], kept[view])


def test_an_action_beyond_the_bounds_is_clipped(env):
    low, high = env.action_space.low, env.action_space.high
    ends = []
    for action in (high, high + (high - low)):
        env.reset(seed=0)
        ends.append(env.step(action.astype(np.float32))[0])
    np.testing.assert_array_equal(*ends)


def test_an_episode_is_truncated_at_the_horizon_and_never_terminates(env):
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)
    ends = [env.step(still)[2:4] for _ in range(env.horizon)]
    assert ends == [(False, False)] * (env.horizon - 1) + [(False, True)]


def test_the_expert_succeeds(env):
    env.reset(seed=0)
    try:
        env.expert()
    except UserError as error:
        assert "no scripted expert" in str(error)
        return
    assert sum(expert_succeeds(env, seed) for seed in range(5)) >= 4


def expert_succeeds(env, seed):
    env.reset(seed=seed)
    expert = env.expert()
    for _ in range(env.horizon):
        action = expert()
        assert env.action_space.contains(action)
        *_, info = env.step(action)
        assert type(info["success"]) is bool
        if info["success"]:
            return True
    return False


def test_an_unknown_task_or_view_is_refused_by_name(name, task):
    with pytest.raises(UserError, match="'nonesuch'"):
        registry.build("envs", name, "nonesuch")
    with pytest.raises(UserError, match="'nonesuch'"):
        registry.build("envs", name, task, views=["nonesuch"])
