"""What every file in `videopolicy/worlds` must keep, on one task each."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from videopolicy import registry
from videopolicy.actions.space import Space
from videopolicy.errors import UserError

# The task that a world is judged on, where it is not the first; marks of worlds that need an extra.
TASKS = {"metaworld": "button-press-topdown-v3", "libero": "pick_up_the_salad_dressing_and_place_it_in_the_basket"}
# RoboCasa is in no package index, and its kitchen assets are a download of gigabytes: CI has never run it, and whoever
# has installed both by docs/robocasa.md runs these tests there.
ABSENT = pytest.mark.skipif(find_spec("robocasa") is None, reason="needs RoboCasa and its assets: docs/robocasa.md")
MARKS = {"metaworld": [pytest.mark.metaworld], "libero": [pytest.mark.libero], "robocasa": [ABSENT]}
WITHOUT_EXPERT = ("robocasa",)
WORLDS = [pytest.param(name, marks=MARKS.get(name, [])) for name in registry.names("worlds")]
SIZE = 48


@pytest.fixture(params=WORLDS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def module(name):
    return import_module(f"videopolicy.worlds.{name}")


@pytest.fixture(scope="module")
def task(name, module):
    return TASKS.get(name, module.TASKS[0])


@pytest.fixture(scope="module")
def world(name, task):
    world = registry.build("worlds", name, task, size=SIZE)
    yield world
    world.close()


def images(world, seed):
    world.reset(seed=seed)
    return dict(world.look().images)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # gymnasium's advice on infinite bounds of the state
def test_it_is_a_gymnasium_environment(world):
    check_env(world, skip_render_check=True, skip_close_check=True)


def test_it_describes_itself(world, task):
    assert world.task == task
    assert world.instruction.strip()
    assert world.size == SIZE
    assert world.fps > 0
    assert world.horizon > 0
    assert world.action_space.dtype == world.observation_space.dtype == np.float32
    assert world.action_space.shape == (Space.parse(world.control).width,)
    assert world.observation_space.shape == (Space.parse(world.proprioception).width,)


def test_it_shows_every_view_and_no_view_is_blank(world):
    state, _ = world.reset(seed=0)
    seen = world.look()
    assert tuple(seen.images) == world.views
    assert seen.instruction == world.instruction
    assert np.array_equal(seen.state, state)
    for image in seen.images.values():
        assert image.dtype == np.uint8
        assert image.shape == (SIZE, SIZE, 3)
        assert image.std() > 1


def test_it_renders_only_the_views_it_was_asked_for(name, module, task):
    world = registry.build("worlds", name, task, views=module.VIEWS[-1:], size=SIZE)
    world.reset(seed=0)
    assert tuple(world.look().images) == module.VIEWS[-1:]


def test_a_seed_decides_the_episode_to_the_bit(world):
    actions = np.random.default_rng(0).uniform(-1, 1, (5, *world.action_space.shape)).astype(np.float32)

    def play():
        state, _ = world.reset(seed=3)
        return [state, *(world.step(action)[0] for action in actions)], world.look().images

    (states, seen), (states_again, seen_again) = play(), play()
    np.testing.assert_array_equal(states, states_again)
    for view in world.views:
        np.testing.assert_array_equal(seen[view], seen_again[view])


def test_seeds_differ(world):
    first, second = images(world, 0), images(world, 1)
    assert any(not np.array_equal(first[view], second[view]) for view in world.views)


def test_images_are_not_overwritten_by_the_next_ones(world):
    before = images(world, 0)
    kept = {view: image.copy() for view, image in before.items()}
    images(world, 1)
    for view in world.views:
        np.testing.assert_array_equal(before[view], kept[view])


def test_an_action_beyond_the_bounds_is_clipped(world):
    low, high = world.action_space.low, world.action_space.high
    ends = []
    for action in (high, high + (high - low)):
        world.reset(seed=0)
        ends.append(world.step(action.astype(np.float32))[0])
    np.testing.assert_array_equal(*ends)


def test_an_episode_is_truncated_at_the_horizon_and_never_terminates(world):
    world.reset(seed=0)
    still = np.zeros(world.action_space.shape, np.float32)
    ends = [world.step(still)[2:4] for _ in range(world.horizon)]
    assert ends == [(False, False)] * (world.horizon - 1) + [(False, True)]


def test_the_expert_succeeds(name, world):
    if name in WITHOUT_EXPERT:
        with pytest.raises(UserError, match="no scripted expert"):
            world.expert()
        return
    assert sum(expert_succeeds(world, seed) for seed in range(5)) >= 4


def expert_succeeds(world, seed):
    world.reset(seed=seed)
    expert = world.expert()
    for _ in range(world.horizon):
        action = expert()
        assert world.action_space.contains(action)
        *_, info = world.step(action)
        assert type(info["success"]) is bool
        if info["success"]:
            return True
    return False


def test_an_unknown_task_or_view_is_refused_by_name(name, task):
    with pytest.raises(UserError, match="'nonesuch'"):
        registry.build("worlds", name, "nonesuch")
    with pytest.raises(UserError, match="'nonesuch'"):
        registry.build("worlds", name, task, views=["nonesuch"])
