from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np
import pytest
import torch
from tests.small import policy
from torch.nn import functional as F

from videopolicy.policies import benchmark
from videopolicy.policies.benchmark import PARTS, Spread, count_flops, count_weights, matmul_peak, measure
from videopolicy.policies.video import VideoPlanner
from videopolicy.types import Observation


def planner(sampler="euler", steps=1, views=("top",)):
    model = policy(views=views)
    return VideoPlanner(model, replace(model.config.sampling, sampler=sampler, steps=steps))


def plan(planner, seed=0):
    images = dict.fromkeys(planner.views, np.full((planner.size, planner.size, 3), 90, np.uint8))
    return planner.plan([Observation(images, "reach the red disc")], [seed], imagine=True)[0]


@pytest.fixture
def spends(monkeypatch):
    """A clock that stands still, and a way to make a module's method move it on by one second."""
    now = 0.0
    monkeypatch.setattr(benchmark, "perf_counter", lambda: now)

    def make_spend(module, method="forward"):
        inner = getattr(module, method)

        def slower(*args, **kwargs):
            nonlocal now
            now += 1
            return inner(*args, **kwargs)

        setattr(module, method, slower)

    return make_spend


@pytest.mark.parametrize(
    ("part", "of", "method", "calls"),
    [
        ("encode", "latents", "encode", 1),
        ("video", "backbone", "forward", 2),
        ("action", "head", "adapt", 2),
        ("action", "head", "forward", 2),
        ("decode", "latents", "decode", 1),
        ("other", "text", "forward", 1),
    ],
)
def test_time_is_counted_where_it_is_spent(part, of, method, calls, spends):
    measured = planner(steps=2)
    spends(getattr(measured.policy, of), method)
    figures = measure(measured, repeats=2)
    expected = dict.fromkeys((*PARTS, "other"), Spread(0, 0)) | {part: Spread(calls * 1e3, calls * 1e3)}
    assert figures.parts == expected
    assert figures.total == expected[part]


def test_one_pass_looks_at_the_video_once_and_at_the_actions_every_step(spends):
    measured = planner("one_pass", steps=3)
    for module in (measured.policy.backbone, measured.policy.head):
        spends(module)
    parts = measure(measured, repeats=1).parts
    assert (parts["video"].median, parts["action"].median) == (1e3, 3e3)


def test_parts_and_the_rest_make_the_total():
    figures = measure(planner(), repeats=1)
    assert set(figures.parts) == {*PARTS, "other"}
    assert sum(spread.median for spread in figures.parts.values()) == pytest.approx(figures.total.median)
    assert all(spread.median > 0 for spread in figures.parts.values())


def test_flops_grow_with_the_passes_of_each_net():
    def flops(sampler, steps):
        return count_flops(partial(plan, planner(sampler, steps)))

    one, two, five = (flops("euler", steps) for steps in (1, 2, 5))
    assert five - two == 3 * (two - one) > 0
    assert flops("heun", 2) == flops("euler", 3)
    assert flops("one_pass", 1) == one < flops("one_pass", 5) < five
    assert measure(planner("euler", 2), repeats=1).flops == two


def test_rates_follow_from_time_and_work():
    figures = replace(measure(planner(), repeats=1), total=Spread(50.0, 60.0), flops=10**9)
    assert figures.chunks_per_second == 20
    assert figures.flops_per_second == 20e9


def test_counts_what_attention_convolution_and_products_are_worth():
    x = torch.randn(2, 3, 8, 4)
    assert count_flops(lambda: F.scaled_dot_product_attention(x, x, x)) == 2 * 3 * (2 * 2 * 8 * 8 * 4)
    assert count_flops(lambda: F.conv2d(x, torch.randn(5, 3, 1, 1))) == 2 * (2 * 8 * 4) * 3 * 5
    assert count_flops(lambda: torch.randn(6, 7) @ torch.randn(7, 8)) == 2 * 6 * 7 * 8


def test_measuring_leaves_no_trace():
    measured = planner(views=("top", "close"))
    before, attributes = plan(measured), (set(vars(measured)), set(vars(measured.policy)))
    measure(measured, repeats=1)
    assert (set(vars(measured)), set(vars(measured.policy))) == attributes
    np.testing.assert_array_equal(plan(measured).actions, before.actions)


def test_every_number_of_the_checkpoint_belongs_to_a_part():
    model = policy()
    assert sum(count_weights(model).values()) == sum(tensor.numel() for tensor in model.state_dict().values())
    assert count_weights(policy(None))["head"] == 0


def test_spread_is_the_median_and_the_90th_percentile_in_milliseconds():
    spread = Spread.of([0.001 * n for n in range(1, 102)])
    assert (spread.median, spread.p90) == pytest.approx((51.0, 91.0))


def test_the_limit_is_a_matrix_products():
    """Within what a busy machine may add: a slip of the units, or of the count, is a factor of 1000."""
    matrix = torch.ones(512, 512)
    start = perf_counter()
    for _ in range(20):
        matrix @ matrix
    reached = 20 * 2 * 512**3 / (perf_counter() - start)
    assert reached / 30 < matmul_peak(torch.device("cpu")) < reached * 30
