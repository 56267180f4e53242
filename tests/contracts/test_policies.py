"""What every policy must keep; its `EXAMPLE` is the target of one of two actions, or writes it into a folder."""

import json
from dataclasses import asdict, replace
from inspect import Parameter, signature

import numpy as np
import pytest
from tests.contracts.plugins import example, skip_unless_it_can_run
from tests.small import observation

from videopolicy import registry
from videopolicy.policies.base import Policy, PolicySpec

OBSERVATIONS = [observation(0), observation(1, task="reach-blue"), observation(2)]
SEEDS = [3, 2**62 + 5, 11]


@pytest.fixture(params=registry.names("policies"), scope="module")
def policy(request, tmp_path_factory) -> Policy:
    skip_unless_it_can_run("policies", request.param)
    given = example("policies", request.param)
    target = given(tmp_path_factory.mktemp(request.param)) if callable(given) else given
    return registry.build("policies", request.param, target)


@pytest.mark.parametrize("name", registry.names("policies"))
def test_it_is_made_of_a_target_and_options_that_may_be_left_out(name):
    target, *options = signature(registry.entry("policies", name)).parameters.values()
    assert target.name == "target"
    assert all(option.kind is Parameter.KEYWORD_ONLY and option.default is not Parameter.empty for option in options)


def test_it_tells_what_it_sees_and_does(policy):
    spec = policy.spec
    assert set(spec.views) <= {"top", "close"}
    assert spec.size >= 8
    assert spec.action_width == 2
    assert (spec.action_layout, spec.state_layout, spec.fps) == ("", "", None)
    assert 1 <= spec.execute <= spec.chunk
    assert all(note and len(note.splitlines()) == 1 for note in spec.notes)


def test_what_it_tells_can_be_written_down_and_does_not_change(policy):
    spec = policy.spec
    assert type(spec) is PolicySpec
    assert json.loads(json.dumps(dict(spec.sampling))) == spec.sampling
    policy.plan(OBSERVATIONS, SEEDS, False)
    assert policy.spec == spec and asdict(policy.spec) == asdict(spec)


def test_one_plan_an_observation_as_long_as_it_said(policy):
    plans = policy.plan(OBSERVATIONS, SEEDS, [True, False, True])
    assert len(plans) == 3
    for plan, asked in zip(plans, (True, False, True), strict=True):
        assert plan.actions.dtype == np.float32
        assert plan.actions.shape == (policy.spec.chunk, 2)
        assert np.isfinite(plan.actions).all()
        assert (plan.imagined is not None) == (asked and len(plan.offsets) > 0)
        for view, frames in (plan.imagined or {}).items():
            assert view in policy.spec.views
            assert frames.dtype == np.uint8
            assert frames.shape == (len(plan.offsets), policy.spec.size, policy.spec.size, 3)


def test_a_plan_depends_on_its_own_observation_and_seed_alone(policy):
    together = policy.plan(OBSERVATIONS, SEEDS, True)
    for index, (seen, seed) in enumerate(zip(OBSERVATIONS, SEEDS, strict=True)):
        (alone,) = policy.plan([seen], [seed], True)
        np.testing.assert_allclose(together[index].actions, alone.actions, rtol=0, atol=1e-5)
        for view, frames in (alone.imagined or {}).items():
            assert np.abs(together[index].imagined[view].astype(int) - frames).max() <= 1
    backwards = policy.plan(OBSERVATIONS[::-1], SEEDS[::-1], False)[::-1]
    for plan, other in zip(together, backwards, strict=True):
        np.testing.assert_allclose(plan.actions, other.actions, rtol=0, atol=1e-5)


def test_the_same_again_is_the_same_and_another_seed_is_not(policy):
    def actions(seed):
        return policy.plan(OBSERVATIONS[:1], [seed], False)[0].actions

    first = actions(3)
    np.testing.assert_array_equal(first, actions(3))
    assert not np.allclose(first, actions(4), atol=1e-4)


def test_what_it_says_it_sees_matters_and_nothing_else_does(policy):
    def actions(seen):
        return policy.plan([seen], [3], False)[0].actions

    seen, other = OBSERVATIONS[:2]
    first = actions(seen)
    for view in policy.spec.views:
        changed = replace(seen, images={**seen.images, view: other.images[view]})
        assert not np.allclose(first, actions(changed), atol=1e-6)
    np.testing.assert_array_equal(first, actions(replace(seen, images={**seen.images, "other": np.zeros(3)})))


def test_it_plans_whether_or_not_it_is_told_what_is_committed(policy):
    planned = np.full((5, 2), 0.5, np.float32)
    (plan,) = policy.plan([replace(OBSERVATIONS[0], planned=planned, committed=2)], [3], False)
    assert plan.actions.shape == (policy.spec.chunk, 2) and np.isfinite(plan.actions).all()
