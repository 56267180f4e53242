"""Halving the steps' width divides the error by two to the order, on a Gaussian with a closed-form answer."""

from itertools import pairwise
from math import log2

import pytest
import torch
from tests.diffusion.samplers.gaussian import FreezableGaussian, Gaussian

from videopolicy import registry
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import dpmpp, euler, heun, one_pass

START, END = 10.0, 0.1


def problem() -> tuple[Joint, Joint]:
    generator = torch.Generator().manual_seed(3)
    video = torch.randn(1, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    x = Joint(video, torch.randn(1, 5, 2, generator=generator, dtype=torch.float64))
    return Joint.randn_like(x, generator), x * START


def error(sample, steps: int) -> float:
    mean, x = problem()
    denoise = FreezableGaussian(mean)
    sigmas = schedule(steps + 1, END, START)[:-1].double()
    exact = denoise.flow(x, float(sigmas[0]), float(sigmas[-1]))
    return float((sample(denoise, x, Levels.same(sigmas)) - exact).actions.abs().max())


@pytest.mark.parametrize(
    ("sample", "order"), [(euler.sample, 1), (heun.sample, 2), (dpmpp.sample, 2), (one_pass.sample, 1)]
)
def test_measured_order(sample, order):
    errors = [error(sample, steps) for steps in (40, 80, 160)]
    for coarse, fine in pairwise(errors):
        assert log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_second_order_beats_first_at_the_same_number_of_function_evaluations():
    first = error(euler.sample, 60)
    assert error(dpmpp.sample, 60) < first / 5
    assert error(heun.sample, 30) < first / 5


@pytest.mark.parametrize(("name", "evaluations"), [("euler", 8), ("dpmpp", 8), ("heun", 15)])
def test_function_evaluations(name, evaluations):
    mean, x = problem()
    denoise = Gaussian(mean)
    registry.entry("samplers", name)(denoise, x, Levels.same(schedule(8, END, START)))
    assert len(denoise.asked) == evaluations
    assert min(denoise.asked) > (0, 0)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp"])
def test_a_plain_tensor_does_for_a_joint(name):
    mean, x = problem()
    sample, sigmas = registry.entry("samplers", name), schedule(8, END, START)
    alone = sample(Gaussian(mean.video), x.video, sigmas)
    assert torch.equal(alone, sample(Gaussian(mean), x, Levels.same(sigmas)).video)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp"])
def test_the_whole_flow_when_the_schedule_stops_above_zero(name):
    mean, x = problem()
    denoise = Gaussian(mean)
    reached = registry.entry("samplers", name)(denoise, x, Levels.same(schedule(200, END, START)[:-1]))
    torch.testing.assert_close(reached.video, denoise.flow(x, START, END).video, rtol=0, atol=0.05)
