from concurrent.futures import wait

import numpy as np
import pytest
from tests.serving.serving import IMAGE, Drawn

from videopolicy.errors import UserError
from videopolicy.policies.base import PlanRequest
from videopolicy.policies.random import RandomPolicy
from videopolicy.serving.engine import BusyError, Engine
from videopolicy.types import Observation


def request(seed, instruction="reach"):
    return PlanRequest(Observation({"top": IMAGE}, instruction), seed, False)


@pytest.fixture
def policy():
    return Drawn()


@pytest.fixture
def start(policy):
    engines = []

    def started(**options):
        engines.append(Engine(policy, **options))
        engines[-1].start(Observation({"top": IMAGE}, "go"))
        policy.batches.clear()
        policy.begun.clear()
        return engines[-1]

    yield started
    policy.go.set()
    for engine in engines:
        engine.close()


def held(policy, engine):
    """A request that is being planned until the policy may go on."""
    policy.go.clear()
    first = engine.ask("held", request(0))
    assert policy.begun.wait(30)
    return first


def test_whoever_asks_gets_the_plan_of_its_own_seed(policy, start):
    engine = start(batch=3)
    futures = {seed: engine.ask(seed, request(seed)) for seed in (5, 3, 4, 9)}
    for seed, future in futures.items():
        alone = RandomPolicy.plan(policy, [], [seed], False)[0]
        np.testing.assert_array_equal(future.result(30).plan.actions, alone.actions)


def test_who_comes_first_is_planned_first_and_none_twice_before_another_once(policy, start):
    engine = start(batch=2)
    first = held(policy, engine)
    futures = [engine.ask(key, request(seed)) for key, seed in (("b", 1), ("a", 2), ("c", 3))]
    with pytest.raises(ValueError, match="has asked already"):
        engine.ask("a", request(4))
    policy.go.set()
    wait([first, *futures], 30)
    assert policy.batches == [[0], [1, 2], [3]]


def test_a_full_queue_says_so_at_once(policy, start):
    engine = start(queue=2)
    first = held(policy, engine)
    futures = [engine.ask(key, request(1)) for key in "ab"]
    with pytest.raises(BusyError, match="2 requests wait already"):
        engine.ask("c", request(1))
    engine.withdraw("a")
    futures[0] = engine.ask("c", request(1))
    policy.go.set()
    assert not wait([first, *futures], 30).not_done


def test_what_is_not_finite_or_fails_is_the_askers_own_affair(policy, start):
    engine = start(batch=4)
    first = held(policy, engine)
    futures = {said: engine.ask(said, request(7, said)) for said in ("reach", "nan", "break", "push")}
    policy.go.set()
    wait([first, *futures.values()], 30)
    assert isinstance(futures["nan"].exception(), UserError)
    assert "action 1, dimension 0" in str(futures["nan"].exception())
    assert isinstance(futures["break"].exception(), RuntimeError)
    for said in ("reach", "push"):
        assert np.isfinite(futures[said].result().plan.actions).all()


def test_a_policy_that_cannot_plan_does_not_start():
    with pytest.raises(UserError, match="not finite"):
        Engine(Drawn()).start(Observation({"top": IMAGE}, "nan"))


def test_those_that_wait_are_answered_before_it_ends_and_no_more_are_taken(policy, start):
    engine = start()
    first = held(policy, engine)
    second = engine.ask("b", request(1))
    engine._stopping = True
    with pytest.raises(BusyError):
        engine.ask("c", request(1))
    policy.go.set()
    engine.close()
    assert first.done() and second.done()


def test_it_is_warm_in_every_size_of_a_batch_before_it_is_asked(policy):
    engine = Engine(policy, batch=3)
    engine.start(Observation({"top": IMAGE}, "go"))
    engine.close()
    assert [len(batch) for batch in policy.batches] == [1, 2, 3]
