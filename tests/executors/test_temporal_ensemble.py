import numpy as np
import pytest

from videopolicy.executors.temporal_ensemble import make
from videopolicy.types import Observation, Plan

OBSERVATION = Observation({}, "")
CHUNK = 6


def play(execute, latency, steps, plans):
    """The actions of an episode, (steps,), of a policy whose plan i is row i of `plans`."""
    left = iter(plans)
    executor = make(lambda seen, seed: Plan(next(left)[:, None]), execute=execute, latency=latency)
    return np.array([executor.act(OBSERVATION).item() for _ in range(steps)])


@pytest.fixture
def plans():
    return np.random.default_rng(0).normal(size=(30, CHUNK)).astype(np.float32)


@pytest.mark.parametrize(("execute", "latency"), [(1, 0), (2, 0), (1, 1), (3, 2)])
def test_every_action_is_the_papers_mean_of_all_plans_that_have_arrived_and_cover_it(plans, execute, latency):
    steps = 20
    actions = play(execute, latency, steps, plans)
    for step in range(steps):
        asked = [number * execute for number in range(step // execute + 1)]
        arrived = [start for start in asked if start == 0 or start + latency <= step]
        covering = [start for start in arrived if step < start + CHUNK]
        values = [plans[start // execute][step - start] for start in covering]
        weights = [np.exp(-0.01 * age) for age in range(len(covering))]
        assert actions[step] == pytest.approx(np.average(values, weights=weights), abs=1e-6)


def test_older_plans_weigh_more():
    plans = np.zeros((2, CHUNK), np.float32)
    plans[1] = 1
    _, second = play(1, 0, 2, plans)
    assert 0.49 < second < 0.5


def test_plans_that_agree_come_true():
    path = np.sin(np.arange(40, dtype=np.float32))
    plans = np.stack([path[start : start + CHUNK] for start in range(20)])
    np.testing.assert_allclose(play(1, 0, 20, plans), path[:20], atol=1e-6)
