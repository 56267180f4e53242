"""What every file in `videopolicy/policies` that makes a planner must keep."""

import numpy as np
import pytest
from tests.small import observation, policy

from videopolicy import checkpoint, registry
from videopolicy.policies.base import Planner


def save_video(folder):
    checkpoint.save(policy(views=("top", "close")), checkpoint.Provenance("joint", 1), folder)
    return folder


# Planner -> a function that makes what its `make` is given.
EXAMPLES = {"checkpoint": save_video}
OBSERVATIONS = [observation(0), observation(1, task="reach-blue"), observation(2)]
SEEDS = [3, 2**62 + 5, 11]


@pytest.fixture(params=registry.names("policies"), scope="module")
def planner(request, tmp_path_factory) -> Planner:
    given = EXAMPLES[request.param](tmp_path_factory.mktemp(request.param) / "checkpoint")
    return registry.build("policies", request.param, given)


def test_it_tells_what_it_sees_and_does(planner):
    assert set(planner.views) <= {"top", "close"}
    assert planner.size == 32
    assert planner.action_width == 2
    assert (planner.action_layout, planner.state_layout, planner.fps) == ("", "", None)
    assert planner.execute >= 1


def test_one_plan_an_observation_long_enough_to_be_executed(planner):
    plans = planner.plan(OBSERVATIONS, SEEDS, [True, False, True])
    assert len(plans) == 3
    for plan, asked in zip(plans, (True, False, True), strict=True):
        assert plan.actions.dtype == np.float32
        assert plan.actions.shape[0] >= planner.execute and plan.actions.shape[1] == 2
        assert np.isfinite(plan.actions).all()
        assert (plan.imagined is not None) == asked
        for frames in (plan.imagined or {}).values():
            assert frames.dtype == np.uint8
            assert frames.shape == (len(plan.offsets), 32, 32, 3)


def test_a_plan_depends_on_its_own_observation_and_seed_alone(planner):
    together = planner.plan(OBSERVATIONS, SEEDS, True)
    for index, (seen, seed) in enumerate(zip(OBSERVATIONS, SEEDS, strict=True)):
        (alone,) = planner.plan([seen], [seed], True)
        np.testing.assert_allclose(together[index].actions, alone.actions, rtol=0, atol=1e-5)
        for view, frames in alone.imagined.items():
            assert np.abs(together[index].imagined[view].astype(int) - frames).max() <= 1
    backwards = planner.plan(OBSERVATIONS[::-1], SEEDS[::-1], False)[::-1]
    for plan, other in zip(together, backwards, strict=True):
        np.testing.assert_allclose(plan.actions, other.actions, rtol=0, atol=1e-5)


def test_the_same_again_is_the_same_and_another_seed_or_observation_is_not(planner):
    def actions(seen, seed):
        return planner.plan([seen], [seed], False)[0].actions

    first = actions(OBSERVATIONS[0], 3)
    np.testing.assert_array_equal(first, actions(OBSERVATIONS[0], 3))
    assert not np.allclose(first, actions(OBSERVATIONS[0], 4), atol=1e-4)
    assert not np.allclose(first, actions(OBSERVATIONS[1], 3), atol=1e-6)
