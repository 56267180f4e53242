from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videopolicy.executors.chunked import make
from videopolicy.types import Observation, Plan

OBSERVATION = Observation({}, "")


class Counting:
    """Plan i holds the actions 100 i, 100 i + 1, ..."""

    def __init__(self, length=8):
        self.length, self.seeds, self.planned = length, [], []

    def __call__(self, observation, seed):
        self.seeds.append(seed)
        planned = None if observation.planned is None else observation.planned.ravel().tolist()
        self.planned.append((planned, observation.committed))
        first = 100 * (len(self.seeds) - 1)
        return Plan(np.arange(first, first + self.length, dtype=np.float32)[:, None])


def test_executes_the_first_actions_of_each_plan_in_order():
    executor = make(Counting(), execute=3)
    assert [executor.act(OBSERVATION).item() for _ in range(7)] == [0, 1, 2, 100, 101, 102, 200]
    assert executor.plans == 3


def test_asks_only_when_what_it_executes_of_a_plan_is_used_up():
    executor = make(Counting(), execute=3)
    asks = []
    for _ in range(6):
        asks.append(executor.needs_observation)
        executor.act(OBSERVATION if executor.needs_observation else None)
    assert asks == [True, False, False, True, False, False]


def test_reset_drops_the_rest_of_the_plan():
    executor = make(Counting(), execute=3)
    executor.act(OBSERVATION)
    executor.reset(1)
    assert executor.needs_observation and executor.plans == 0
    assert executor.act(OBSERVATION).item() == 100


def test_plan_seeds_do_not_depend_on_how_much_of_a_plan_is_executed():
    def seeds(episode_seed, execute, steps):
        ask = Counting()
        executor = make(ask, execute=execute)
        executor.reset(episode_seed)
        for _ in range(steps):
            executor.act(OBSERVATION)
        return ask.seeds

    assert seeds(5, 1, 4) == seeds(5, 2, 8)
    assert len(set(seeds(5, 1, 50) + seeds(6, 1, 50))) == 100
    assert all(0 <= seed < 2**63 for seed in seeds(5, 1, 50))


def test_until_a_late_plan_arrives_the_one_before_goes_on_and_its_first_actions_are_past_then():
    ask = Counting()
    executor = make(ask, execute=3, latency=2)
    actions = [executor.act(OBSERVATION).item() for _ in range(9)]
    #                  asks     arrives             arrives
    assert actions == [0, 1, 2, 3, 4, 102, 103, 104, 202]
    assert ask.planned == [(None, 0), ([3, 4, 5, 6, 7], 2), ([103, 104, 105, 106, 107], 2)]


def test_a_plan_that_is_used_up_leaves_nothing_planned():
    ask = Counting(length=3)
    executor = make(ask, execute=3)
    for _ in range(4):
        executor.act(OBSERVATION)
    assert ask.planned == [(None, 0), (None, 0)]


@pytest.mark.parametrize(("execute", "length"), [(1, 1), (1, 5), (4, 4), (3, 8)])
def test_without_latency_it_is_a_queue_of_the_first_actions_of_each_plan(execute, length):
    def ask(observation, seed):
        return Plan(np.random.default_rng(seed).normal(size=(length, 2)).astype(np.float32))

    executor, seeds, queue = make(ask, execute=execute), [], deque()
    recording = make(lambda observation, seed: seeds.append(seed) or ask(observation, seed), execute=execute)
    for each in (executor, recording):
        each.reset(7)
    for step in range(20):
        assert executor.needs_observation == (not queue)
        recording.act(OBSERVATION)
        if not queue:
            queue.extend(ask(OBSERVATION, seeds[-1]).actions[:execute])
        np.testing.assert_array_equal(executor.act(OBSERVATION), queue.popleft(), err_msg=f"step {step}")


@settings(max_examples=50)
@given(
    latency=st.integers(0, 6),
    wait=st.integers(0, 6),
    more=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_plans_that_continue_what_is_committed_join_without_a_jump(latency, wait, more, seed):
    rng = np.random.default_rng(seed)
    execute = max(1, latency + wait)
    executed = [0.0]

    def ask(observation, _):
        """What is committed as it was given, then steps of at most 1."""
        committed = np.zeros((0, 1)) if observation.planned is None else observation.planned[: observation.committed]
        length = execute + latency + more - len(committed) + 1
        start = committed[-1] if len(committed) else executed[-1]
        walk = start + rng.uniform(-1, 1, (length, 1)).cumsum(0)
        return Plan(np.concatenate([committed, walk]).astype(np.float32))

    executor = make(ask, execute=execute, latency=latency)
    for _ in range(60):
        executed.append(executor.act(OBSERVATION).item())
    assert np.abs(np.diff(executed)).max() <= 1 + 1e-5
