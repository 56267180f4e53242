from dataclasses import replace

import numpy as np
import pytest
from tests.small import observation, small_model

from videopolicy.policies.benchmark import following
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.progress import progress_bar
from videopolicy.tuning.closeness import DrawnActions, at_most, draw


def test_ways_draw_from_the_same_noise_in_turns():
    model = small_model()
    own = CheckpointPolicy(model, replace(model.config.sampling, steps=2))
    policies = [own, own.resampled(replace(own.sampling, steps=1)), own]
    seen = [observation(seed) for seed in range(3)]
    bar = progress_bar(leave=False)
    draws = draw(policies, seen, bar)
    assert bar.n == (len(policies) + 1) * len(seen)
    assert draws.actions.shape == (3, 3, 8, 2) and np.abs(draws.actions).max() <= 1
    assert draws.seconds.shape == (3, 3) and (draws.seconds > 0).all()
    assert draws.off(2).tolist() == [0, 0, 0]
    assert (draws.off(1) > 0).all()
    assert draws.spread > 0


def test_a_way_that_gives_the_mean_of_what_the_first_draws_is_off_though_nearer_to_it_than_its_own_seeds():
    """Why two seeds' distance is no allowance."""
    drawn = np.random.default_rng(0).choice((-1.0, 1.0), (2, 500, 1, 1))
    spread = float(np.abs(drawn[0] - drawn[1]).mean())
    draws = DrawnActions(np.stack([drawn[0], np.zeros_like(drawn[0])]), np.ones((2, 500)), spread)
    assert draws.off(1).mean() == 1 == pytest.approx(spread, abs=0.1)


def test_times_are_compared_turn_by_turn():
    slow = np.array([1.0, 10.0, 100.0])
    draws = DrawnActions(np.zeros((2, 3, 1, 1)), np.stack([slow, slow / 4]), 0.0)
    assert draws.times_faster(1) == 4
    assert draws.median(1) == 2.5


def test_the_end_of_the_interval_is_seldom_below_the_mean():
    rng = np.random.default_rng(0)
    below = [at_most(rng.normal(1, 0.3, 12)) < 1 for _ in range(2000)]
    assert np.mean(below) == pytest.approx(0.05, abs=0.015)


def test_a_warm_start_goes_on_from_another_plan_for_what_is_seen():
    model = small_model()
    own = CheckpointPolicy(model, replace(model.config.sampling, steps=6))
    warm = own.resampled(replace(own.sampling, warm_start=2.0))
    seen = [observation(seed) for seed in range(2)]
    draws = draw([own, warm, own], seen, progress_bar(leave=False))
    assert (draws.off(1) > 0).all() and draws.off(2).tolist() == [0, 0]
    (follows,) = following(own, seen[:1])
    assert follows.planned.shape == (8, 2) and not np.array_equal(
        follows.planned, own.plan(seen[:1], [0], False)[0].actions
    )
