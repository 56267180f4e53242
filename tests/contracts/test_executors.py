"""What every executor must keep; all are made of the same arguments, so that none needs an `EXAMPLE`."""

from types import SimpleNamespace

import numpy as np
import pytest
from tests.contracts.plugins import skip_unless_it_can_run

from videopolicy import registry
from videopolicy.errors import UserError
from videopolicy.executors.base import NotFiniteError
from videopolicy.policies.base import derive_seed
from videopolicy.types import Observation, Plan

SEED, WIDTH, CHUNK, STEPS = 5, 3, 11, 30
# How many steps apart plans are asked for, and how many steps later they come.
RHYTHMS = [(1, 0), (4, 0), (1, 1), (3, 1), (4, 4), (6, 5)]


class Policy:
    """Plans noise that its seed decides; other noise, from one plan on, if told so."""

    def __init__(self, other_from=None):
        self.other_from, self.seen, self.seeds, self.plans = other_from, [], [], []

    def ask(self, observation, seed):
        other = self.other_from is not None and len(self.plans) >= self.other_from
        actions = np.random.default_rng([seed, other]).normal(size=(CHUNK, WIDTH)).astype(np.float32)
        self.seen.append(observation)
        self.seeds.append(seed)
        self.plans.append(actions)
        return Plan(actions)


@pytest.fixture(params=registry.names("executors"))
def build(request):
    skip_unless_it_can_run("executors", request.param)

    def build(policy, execute, latency=0):
        return registry.build("executors", request.param, policy.ask, execute=execute, latency=latency)

    return build


def play(executor, seed=SEED, steps=STEPS):
    """The actions of an episode, (steps, D), and the steps at which a plan was asked for."""
    executor.reset(seed)
    actions, asked = [], []
    for step in range(steps):
        needs = executor.needs_observation
        asked += [step] * needs
        actions.append(executor.act(Observation({}, f"step {step}") if needs else None))
    return np.stack(actions), asked


@pytest.mark.parametrize(("execute", "latency"), RHYTHMS)
def test_every_action_is_a_vector_of_the_right_width_and_finite(build, execute, latency):
    actions, _ = play(build(Policy(), execute, latency))
    assert actions.shape == (STEPS, WIDTH) and actions.dtype == np.float32
    assert np.isfinite(actions).all() and np.abs(actions).max() > 0


@pytest.mark.parametrize(("execute", "latency"), RHYTHMS)
def test_it_asks_at_once_and_only_with_the_observation_that_it_said_it_needs(build, execute, latency):
    policy = Policy()
    executor = build(policy, execute, latency)
    _, asked = play(executor)
    assert asked[0] == 0
    assert [seen.instruction for seen in policy.seen] == [f"step {step}" for step in asked]
    assert executor.plans == len(policy.plans) == len(asked)
    executor.reset(SEED)
    with pytest.raises(ValueError, match="an observation is needed"):
        executor.act(None)


@pytest.mark.parametrize(("execute", "latency"), RHYTHMS)
def test_a_plan_moves_nothing_before_it_has_arrived_and_something_then(build, execute, latency):
    actions, asked = play(build(Policy(), execute, latency))
    for number, step in enumerate(asked):
        others, _ = play(build(Policy(other_from=number), execute, latency))
        arrival = step + latency if number else 0
        np.testing.assert_array_equal(actions[:arrival], others[:arrival])
        if arrival < STEPS:
            assert not np.array_equal(actions[arrival], others[arrival])


@pytest.mark.parametrize(("execute", "latency"), RHYTHMS)
def test_what_was_committed_is_what_is_then_executed(build, execute, latency):
    policy = Policy()
    actions, asked = play(build(policy, execute, latency))
    assert policy.seen[0].planned is None, "the first plan comes before anything moves"
    for step, seen in zip(asked[1:], policy.seen[1:], strict=True):
        assert seen.committed == (0 if seen.planned is None else latency)
        if latency and step + latency <= STEPS:
            np.testing.assert_array_equal(seen.planned[:latency], actions[step : step + latency])


@pytest.mark.parametrize(("execute", "latency"), RHYTHMS)
def test_the_seed_of_plan_i_comes_from_the_episodes_seed_and_i_alone(build, execute, latency):
    policy = Policy()
    _, asked = play(build(policy, execute, latency))
    assert policy.seeds == [derive_seed(SEED, number) for number in range(len(asked))]


@pytest.mark.parametrize(("execute", "latency"), RHYTHMS)
@pytest.mark.parametrize("steps", [1, 5, 6, 13])
def test_a_reset_forgets_everything(build, execute, latency, steps):
    executor = build(Policy(), execute, latency)
    play(executor, seed=6, steps=steps)
    again, fresh = play(executor), play(build(Policy(), execute, latency))
    np.testing.assert_array_equal(again[0], fresh[0])
    assert again[1] == fresh[1]


@pytest.mark.parametrize(("execute", "latency"), RHYTHMS)
def test_a_plan_may_be_as_long_as_it_must_and_no_shorter(build, execute, latency):
    def of(length):
        return SimpleNamespace(ask=lambda observation, seed: Plan(np.ones((length, 1), np.float32)))

    play(build(of(execute + latency), execute, latency))
    with pytest.raises(UserError, match=f"execute is {execute}.* but a plan has only {execute + latency - 1} actions"):
        play(build(of(execute + latency - 1), execute, latency))


def test_actions_that_are_no_numbers_are_refused(build):
    class Diverging(Policy):
        def ask(self, observation, seed):
            return Plan(super().ask(observation, seed).actions * np.float32(np.nan))

    with pytest.raises(NotFiniteError, match="not finite"):
        play(build(Diverging(), execute=1))


@pytest.mark.parametrize(
    ("execute", "latency", "message"),
    [
        (0, 0, "execute is 0; at least 1 action"),
        (2, 3, "execute is 2, but a plan takes 3 control steps: .* execute at least 3"),
        (2, -1, "latency is -1; a plan cannot arrive before"),
    ],
)
def test_a_rhythm_that_cannot_be_kept_is_refused_at_once(build, execute, latency, message):
    with pytest.raises(UserError, match=message) as error:
        build(Policy(), execute, latency)
    assert len(str(error.value).splitlines()) == 1
