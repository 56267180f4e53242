import numpy as np
import pytest

from videopolicy.envs import metaworld
from videopolicy.envs.metaworld_looks import LOOKS, TASKS, make
from videopolicy.errors import UserError
from videopolicy.rollout.protocols import load

TASK = "button-press-topdown-v3"
VIEWS = ("corner2", "gripperPOV")


def play(env, steps=12):
    """The states that random actions lead through, with those of MuJoCo, and the last images."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 4))
    state, _ = env.reset(seed=3)
    states, physics = [state], []
    for action in actions:
        states.append(env.step(action)[0])
        physics.append(env._env.data.qpos.copy())
    images = {view: image.astype(int) for view, image in env.observe().images.items()}
    env.close()
    return np.array(states), np.array(physics), images


@pytest.fixture(scope="module")
def plain():
    return play(metaworld.make(TASK, views=VIEWS))


@pytest.fixture(scope="module")
def played():
    return {look: play(make(f"{TASK}@{look}", views=VIEWS)) for look in LOOKS}


@pytest.mark.metaworld
@pytest.mark.parametrize("look", LOOKS)
def test_a_look_changes_what_is_seen_and_nothing_that_happens(plain, played, look):
    states, physics, images = played[look]
    np.testing.assert_array_equal(states, plain[0])
    np.testing.assert_array_equal(physics, plain[1])
    assert np.abs(images["corner2"] - plain[2]["corner2"]).mean() > 1
    # A camera in the room moves; the one on the hand stays where it is.
    same = np.array_equal(images["gripperPOV"], plain[2]["gripperPOV"])
    assert same == look.startswith("camera")


@pytest.mark.metaworld
def test_no_two_looks_are_alike_and_a_later_step_of_a_way_is_further(plain, played):
    off = {look: np.abs(images["corner2"] - plain[2]["corner2"]).mean() for look, (_, _, images) in played.items()}
    for way in ("light", "texture", "camera"):
        assert off[f"{way}1"] < off[f"{way}2"] < off[f"{way}3"]
    seen = [images["corner2"] for _, _, images in played.values()]
    assert not any(np.array_equal(a, b) for n, a in enumerate(seen) for b in seen[:n])


@pytest.mark.metaworld
def test_a_name_without_a_look_is_the_task_as_it_always_looks(plain):
    env = make(TASK, views=VIEWS)
    assert (env.task, env.instruction) == (TASK, metaworld.INSTRUCTIONS[TASK])
    np.testing.assert_array_equal(play(env)[2]["corner2"], plain[2]["corner2"])


@pytest.mark.metaworld
def test_a_look_lasts_into_the_next_episode(played):
    env = make(f"{TASK}@light3", views=VIEWS)
    env.reset(seed=8)
    env.observe()
    assert env.task == f"{TASK}@light3"
    np.testing.assert_array_equal(play(env)[2]["corner2"], played["light3"][2]["corner2"])


def test_an_unknown_look_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=f"did you mean '{TASK}@light"):
        make(f"{TASK}@lihgt9")


def test_the_protocol_plays_every_task_in_every_look():
    names = {task.name for task in load("unseen_look").tasks}
    assert names <= set(TASKS)
    bases = {name for name in names if "@" not in name}
    assert names == bases | {f"{base}@{look}" for base in bases for look in LOOKS}
    assert bases <= {task.name for task in load("mt10").tasks}
