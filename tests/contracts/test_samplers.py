"""What holds for every sampler, found by its file."""

from math import sqrt

import pytest
import torch
from tests.diffusion.samplers.gaussian import FreezableGaussian, drawn

from videopolicy import registry
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint

SIGMAS = schedule(40, 0.02, 80)


@pytest.fixture(params=registry.names("samplers"))
def sample(request):
    return registry.entry("samplers", request.param)


def start(seed: int = 0) -> Joint:
    return drawn((3, 2, 4, 5, 5), (3, 6, 2), 80, seed)


def gaussian(seed: int = 1) -> FreezableGaussian:
    return FreezableGaussian(Joint.randn_like(start(), torch.Generator().manual_seed(seed)))


def test_many_steps_reach_what_the_flow_would(sample):
    denoise, x = gaussian(), start()
    reached, exact = sample(denoise, x, SIGMAS).actions, denoise.flow(x, 80, 0).actions
    torch.testing.assert_close(reached, exact, rtol=0, atol=0.2)
    assert (x.actions - exact).std() > 50


def test_one_step_is_one_look(sample):
    denoise, x = gaussian(), start()
    reached = sample(denoise, x, schedule(1, 0.02, 80))
    expected = denoise(x, torch.tensor(80.0))
    torch.testing.assert_close(reached.video, expected.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(reached.actions, expected.actions, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_denoiser_that_knows_the_answer_is_believed(sample, steps):
    knowing = gaussian()
    knowing.spread = 0.0
    reached = sample(knowing, start(), schedule(steps, 0.02, 80))
    torch.testing.assert_close(reached.video, knowing.mean.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(reached.actions, knowing.mean.actions, rtol=0, atol=1e-4)


def test_float64_is_kept_and_finer(sample):
    denoise, x = gaussian(), start()
    coarse = sample(denoise, x, SIGMAS)
    denoise.mean = denoise.mean.map(torch.Tensor.double)
    fine = sample(denoise, x.map(torch.Tensor.double), SIGMAS.double())
    assert coarse.actions.dtype == torch.float32
    assert fine.actions.dtype == fine.video.dtype == torch.float64
    torch.testing.assert_close(coarse.actions.double(), fine.actions, rtol=0, atol=1e-4)
    assert not torch.equal(coarse.actions.double(), fine.actions)


def test_the_start_is_left_alone(sample):
    x = start()
    sample(gaussian(), x, SIGMAS)
    assert torch.equal(x.video, start().video)
    assert torch.equal(x.actions, start().actions)


def test_a_sample_does_not_depend_on_its_batch(sample):
    x, denoise = start(), gaussian()
    together = sample(denoise, x, SIGMAS)
    alone = FreezableGaussian(denoise.mean.map(lambda part: part[1:2]))
    by_itself = sample(alone, x.map(lambda part: part[1:2]), SIGMAS)
    torch.testing.assert_close(together.video[1:2], by_itself.video)
    torch.testing.assert_close(together.actions[1:2], by_itself.actions)


def test_initial_noise_has_the_spread_of_a_noisy_unit_sample():
    x = drawn((2, 5, 4, 16, 16), (2, 32, 64), 3)
    assert x.video.shape == (2, 5, 4, 16, 16)
    assert x.actions.shape == (2, 32, 64)
    assert float(x.video.std()) == pytest.approx(sqrt(10), rel=0.05)
    assert float(x.actions.std()) == pytest.approx(sqrt(10), rel=0.05)
