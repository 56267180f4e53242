from sys import getswitchinterval, setswitchinterval
from threading import Event, Thread

import numpy as np
import pytest

from videopolicy.policies.base import PlanRequest
from videopolicy.policies.batching import GATHER_SECONDS, Batcher
from videopolicy.policies.random import RandomPolicy
from videopolicy.types import Observation


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Remembering(RandomPolicy):
    """Remembers its batches."""

    def __init__(self):
        super().__init__(2)
        self.batches = []

    def plan(self, observations, seeds, imagine):
        self.batches.append((list(observations), list(seeds), list(imagine)))
        return super().plan(observations, seeds, imagine)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def policy():
    return Remembering()


@pytest.fixture
def batcher(policy, clock):
    return Batcher(policy, clock)


def request(seed, imagine=False):
    return PlanRequest(Observation({}, f"do {seed}"), seed, imagine)


def test_what_is_asked_for_is_planned_at_once_and_goes_to_who_asked(batcher, policy):
    for key, seed in (("b", 7), ("a", 5), ("c", 6)):
        batcher.add(key, request(seed, imagine=key == "a"))
    plans = batcher.plan()
    assert [key for key, _ in plans] == ["b", "a", "c"]
    for (_, plan), seed in zip(plans, (7, 5, 6), strict=True):
        np.testing.assert_array_equal(plan.actions, RandomPolicy(2).plan([], [seed], False)[0].actions)
    ((observations, seeds, imagine),) = policy.batches
    assert [observation.instruction for observation in observations] == ["do 7", "do 5", "do 6"]
    assert (seeds, imagine) == ([7, 5, 6], [False, True, False])


def test_a_batch_is_due_so_long_after_its_oldest_request_whoever_comes_later(batcher, clock):
    batcher.add("a", request(1))
    assert batcher.seconds_left == pytest.approx(GATHER_SECONDS)
    clock.now += 0.6 * GATHER_SECONDS
    batcher.add("b", request(2))
    assert batcher.seconds_left == pytest.approx(0.4 * GATHER_SECONDS)
    clock.now += GATHER_SECONDS
    assert batcher.seconds_left == 0
    batcher.plan()
    batcher.add("a", request(3))
    assert batcher.seconds_left == pytest.approx(GATHER_SECONDS)


def test_who_waits_is_known(batcher):
    assert not batcher and "a" not in batcher
    batcher.add("a", request(1))
    assert len(batcher) == 1 and "a" in batcher and "b" not in batcher
    batcher.plan()
    assert not batcher and "a" not in batcher


def test_the_oldest_can_be_taken_alone_and_whoever_is_gone_is_forgotten(batcher):
    for key, seed in (("b", 1), ("a", 2), ("c", 3), ("d", 4)):
        batcher.add(key, request(seed))
    batcher.discard("a")
    batcher.discard("never here")
    assert {key: taken.seed for key, taken in batcher.take(2).items()} == {"b": 1, "c": 3}
    assert [key for key, _ in batcher.plan()] == ["d"] and not batcher


def test_a_request_that_comes_while_others_are_planned_is_of_the_next_batch(clock):
    class Interrupted(Remembering):
        def plan(self, *batch):
            if not self.batches:
                batcher.add("late", request(9))
            return super().plan(*batch)

    policy = Interrupted()
    batcher = Batcher(policy, clock)
    batcher.add("early", request(1))
    assert [key for key, _ in batcher.plan()] == ["early"]
    assert [key for key, _ in batcher.plan()] == ["late"]
    assert [seeds for _, seeds, _ in policy.batches] == [[1], [9]]


def test_no_request_is_lost_between_threads():
    batcher, answered, done = Batcher[int](RandomPolicy(2)), [], Event()

    def answer():
        while not done.is_set() or batcher:
            answered.extend(batcher.plan() if batcher else ())

    before = getswitchinterval()
    setswitchinterval(1e-6)
    planning = Thread(target=answer)
    planning.start()
    try:
        for key in range(3000):
            batcher.add(key, request(key))
    finally:
        done.set()
        planning.join()
        setswitchinterval(before)
    assert sorted(key for key, _ in answered) == list(range(3000))


def test_nobody_asks_twice_and_nothing_is_due_when_nobody_asks(batcher):
    with pytest.raises(ValueError, match="no request waits"):
        _ = batcher.seconds_left
    batcher.add("a", request(1))
    with pytest.raises(ValueError, match="a has asked already"):
        batcher.add("a", request(2))
