import numpy as np
import pytest

from videopolicy.errors import UserError
from videopolicy.executors.chunked import Chunked
from videopolicy.types import Observation, Plan

OBSERVATION = Observation({}, "")


class Counting:
    """Plan i holds the actions 100 i, 100 i + 1, ..."""

    def __init__(self, length=8):
        self.length, self.seeds = length, []

    def __call__(self, observation, seed):
        self.seeds.append(seed)
        first = 100 * (len(self.seeds) - 1)
        return Plan(np.arange(first, first + self.length, dtype=np.float32)[:, None])


def test_executes_the_first_actions_of_each_plan_in_order():
    policy = Chunked(Counting(), execute=3)
    assert [policy.act(OBSERVATION).item() for _ in range(7)] == [0, 1, 2, 100, 101, 102, 200]
    assert policy.plans == 3


def test_looks_only_when_the_queue_is_empty():
    policy = Chunked(Counting(), execute=3)
    looks = []
    for _ in range(6):
        looks.append(policy.needs_observation)
        policy.act(OBSERVATION if policy.needs_observation else None)
    assert looks == [True, False, False, True, False, False]
    with pytest.raises(ValueError, match="an observation is needed"):
        policy.act(None)


def test_reset_drops_the_rest_of_the_plan():
    policy = Chunked(Counting(), execute=3)
    policy.act(OBSERVATION)
    policy.reset(1)
    assert policy.needs_observation and policy.plans == 0
    assert policy.act(OBSERVATION).item() == 100


def test_plan_seeds_come_from_the_episode_seed_and_the_plan_alone():
    def seeds(episode_seed, execute, steps):
        ask = Counting()
        policy = Chunked(ask, execute)
        policy.reset(episode_seed)
        for _ in range(steps):
            policy.act(OBSERVATION)
        return ask.seeds

    assert seeds(5, 1, 4) == seeds(5, 2, 8)
    assert len(set(seeds(5, 1, 50) + seeds(6, 1, 50))) == 100
    assert all(0 <= seed < 2**63 for seed in seeds(5, 1, 50))


def test_a_plan_shorter_than_what_is_executed_is_refused():
    with pytest.raises(UserError, match="execute is 9, but a plan has only 8 actions"):
        Chunked(Counting(8), execute=9).act(OBSERVATION)
    assert Chunked(Counting(8), execute=8).act(OBSERVATION).item() == 0


def test_actions_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="not finite"):
        Chunked(lambda observation, seed: Plan(np.full((4, 1), np.nan, np.float32)), execute=1).act(OBSERVATION)


def test_executing_nothing_is_refused():
    with pytest.raises(UserError, match="execute is 0"):
        Chunked(Counting(), execute=0)
