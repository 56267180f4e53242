from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tests.small import small_model

from videopolicy import hardware
from videopolicy.hardware import Timing, count_flops
from videopolicy.policies.benchmark import count_weights, measure
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.types import Observation

pytestmark = pytest.mark.slow

PARTS = ("encode", "video", "action", "decode")


def sampling(sampler="euler", steps=1, views=("top",)):
    model = small_model(views=views)
    return CheckpointPolicy(model, replace(model.config.sampling, sampler=sampler, steps=steps))


def plan(policy, seed=0, imagine=True):
    images = dict.fromkeys(policy.spec.views, np.full((policy.spec.size, policy.spec.size, 3), 90, np.uint8))
    return policy.plan([Observation(images, "reach the red disc")], [seed], imagine)[0]


@pytest.fixture
def spends(monkeypatch):
    """A clock that stands still, and a way to make a module's method move it on by one second."""
    now = 0.0
    monkeypatch.setattr(hardware, "perf_counter", lambda: now)

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
    measured = sampling(steps=2)
    spends(getattr(measured.model, of), method)
    figures = measure(measured, repeats=2)
    expected = dict.fromkeys((*PARTS, "other"), Timing(0, 0)) | {part: Timing(calls * 1e3, calls * 1e3)}
    assert figures.parts == expected
    assert figures.whole == expected[part]
    # A robot needs no picture.
    assert figures.acting == (Timing(0, 0) if part == "decode" else expected[part])
    assert figures.first == figures.acting.median


def test_one_pass_denoises_the_video_once_and_the_actions_every_step(spends):
    measured = sampling("one_pass", steps=3)
    for module in (measured.model.backbone, measured.model.head):
        spends(module)
    parts = measure(measured, repeats=1).parts
    assert (parts["video"].median, parts["action"].median) == (1e3, 3e3)


def test_parts_and_the_rest_make_the_whole():
    figures = measure(sampling(), repeats=1)
    assert set(figures.parts) == {*PARTS, "other"}
    assert sum(spread.median for spread in figures.parts.values()) == pytest.approx(figures.whole.median)
    assert all(spread.median > 0 for spread in figures.parts.values())


def test_flops_grow_with_the_passes_of_each_net():
    def flops(sampler, steps):
        return count_flops(partial(plan, sampling(sampler, steps), imagine=False))

    one, two, five = (flops("euler", steps) for steps in (1, 2, 5))
    assert five - two == 3 * (two - one) > 0
    assert flops("heun", 2) == flops("euler", 3)
    assert flops("one_pass", 1) == one < flops("one_pass", 5) < five
    assert measure(sampling("euler", 2), repeats=1).flops == two


def test_rates_follow_from_time_and_work():
    figures = replace(measure(sampling(), repeats=1), acting=Timing(50.0, 60.0), flops=10**9, execute=4)
    assert figures.control_rate == 80
    assert figures.flops_per_second == 20e9


def test_measuring_leaves_no_trace():
    measured = sampling(views=("top", "close"))
    before, attributes = plan(measured), (set(vars(measured)), set(vars(measured.model)))
    measure(measured, repeats=1)
    assert (set(vars(measured)), set(vars(measured.model))) == attributes
    np.testing.assert_array_equal(plan(measured).actions, before.actions)


def test_every_number_of_the_checkpoint_belongs_to_a_part():
    model = small_model()
    assert sum(count_weights(model).values()) == sum(tensor.numel() for tensor in model.state_dict().values())
    assert count_weights(small_model(None))["head"] == 0


@pytest.mark.parametrize("cheaper", [{"warm_start": 2.0}, {"reuse": 3}])
def test_what_is_reused_is_not_computed(cheaper):
    policy = sampling(steps=6)
    saving = policy.resampled(replace(policy.sampling, **cheaper))
    assert measure(saving, 1).flops < 0.8 * measure(policy, 1).flops
