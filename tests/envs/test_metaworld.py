import hashlib
import subprocess
import sys

import numpy as np
import pytest

from videopolicy.envs import metaworld
from videopolicy.envs.metaworld import INSTRUCTIONS, TASKS, VIEWS, make
from videopolicy.errors import UserError

BUTTON = "button-press-topdown-v3"


@pytest.fixture(scope="module")
def every_view():
    env = make(BUTTON, views=VIEWS)
    yield env
    env.close()


def digest(env):
    return hashlib.sha256(b"".join(image.tobytes() for image in env.observe().images.values())).hexdigest()


def test_instructions_are_plain_and_all_different():
    assert len(TASKS) == len(set(INSTRUCTIONS.values())) == 50
    for instruction in INSTRUCTIONS.values():
        assert instruction == instruction.lower()
        assert 3 <= len(instruction.split()) <= 12


@pytest.mark.metaworld
def test_the_tasks_and_the_views_are_metaworlds_own(every_view):
    from metaworld.env_dict import ENV_CLS_MAP

    assert set(TASKS) == set(ENV_CLS_MAP)
    model = every_view._env.model
    assert {model.camera(index).name for index in range(model.ncam)} == set(VIEWS)


@pytest.mark.metaworld
@pytest.mark.parametrize("view", sorted(metaworld.UPSIDE_DOWN))
def test_images_are_upright(every_view, view):
    """The button's yellow box stands on a dark one, as the robot does."""
    every_view.reset(seed=0)
    image = every_view.observe().images[view].astype(int)
    yellow = (image[..., 0] > 180) & (image[..., 1] > 120) & (image[..., 2] < 70)
    dark = image.max(axis=2) < 70
    rows = np.arange(64)
    assert np.average(rows, weights=yellow.sum(axis=1)) < np.average(rows, weights=dark.sum(axis=1)) - 2


@pytest.mark.metaworld
def test_the_state_is_the_hand_and_says_nothing_of_the_objects(every_view):
    one, _ = every_view.reset(seed=0)
    for seed in range(1, 4):
        state, _ = every_view.reset(seed=seed)
        np.testing.assert_allclose(state, one, atol=1e-6)
    assert 0 <= one[3] <= 1
    after, *_ = every_view.step(np.array([1, 0, 0, 0], np.float32))
    assert after[0] > one[0]


@pytest.mark.metaworld
@pytest.mark.parametrize("task", ["push-v3", "push-back-v3", "hammer-v3", "peg-insert-side-v3"])
def test_what_came_before_leaves_no_trace_in_a_start(task):
    """push-v3 and push-back-v3 would show the goal of the episode before."""
    env = make(task, views=["corner2"])
    env.reset(seed=7)
    fresh, marks = digest(env), env._env.data.site_xpos.copy()
    for seed in (1, 2):
        env.reset(seed=seed)
        expert = env.expert()
        for _ in range(40):
            env.step(expert())
    env.reset(seed=7)
    np.testing.assert_array_equal(env._env.data.site_xpos, marks)
    assert digest(env) == fresh
    env.close()


@pytest.mark.metaworld
def test_fresh_processes_see_the_same_to_the_bit():
    script = (
        "import hashlib, sys\n"
        "from videopolicy.envs.metaworld import make\n"
        f"env = make({BUTTON!r}, views=['corner2', 'gripperPOV']); env.reset(seed=int(sys.argv[1]))\n"
        "act = env.expert()\n"
        "for _ in range(20): state = env.step(act())[0]\n"
        "images = env.observe().images.values()\n"
        "print(hashlib.sha256(b''.join(i.tobytes() for i in images) + state.tobytes()).hexdigest())"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", script, seed], capture_output=True, text=True, check=True, encoding="utf-8"
        ).stdout
        for seed in ("5", "5", "6")
    ]
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.metaworld
def test_without_a_seed_starts_go_on_differing_reproducibly():
    env = make(BUTTON, views=["corner2"])

    def starts():
        env.reset(seed=0)
        found = []
        for _ in range(3):
            env.reset()
            found.append(env._env.data.body("box").xpos.copy())
        return np.array(found)

    first = starts()
    assert len(np.unique(first[:, 0])) == 3
    np.testing.assert_array_equal(first, starts())


@pytest.mark.parametrize("missing", ["metaworld", "mujoco", "packaging"])
def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not there
    with pytest.raises(UserError, match=r"pip install 'videopolicy\[metaworld\]'"):
        make(BUTTON)


def test_a_mistyped_task_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'drawer-open-v3'"):
        make("draw-open-v3")
