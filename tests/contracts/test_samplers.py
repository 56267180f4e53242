"""What every sampler must keep; all take the same arguments, so that none needs an `EXAMPLE`."""

from math import sqrt

import pytest
import torch
from tests.contracts.plugins import skip_unless_it_can_run
from tests.diffusion.samplers.gaussian import FreezableGaussian, drawn

from videopolicy import registry
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint, Levels

LEVELS = Levels.same(schedule(40, 0.02, 80))


@pytest.fixture(params=registry.names("samplers"))
def name(request):
    skip_unless_it_can_run("samplers", request.param)
    return request.param


@pytest.fixture
def sample(name):
    return registry.entry("samplers", name)


def start(seed: int = 0) -> Joint:
    return drawn((3, 2, 4, 5, 5), (3, 6, 2), 80, seed)


def gaussian(seed: int = 1) -> FreezableGaussian:
    return FreezableGaussian(Joint.randn_like(start(), torch.Generator().manual_seed(seed)))


def test_many_steps_reach_what_the_flow_would(sample):
    denoise, x = gaussian(), start()
    reached, exact = sample(denoise, x, LEVELS).actions, denoise.flow(x, 80, 0).actions
    torch.testing.assert_close(reached, exact, rtol=0, atol=0.2)
    assert (x.actions - exact).std() > 50


def test_one_step_is_one_function_evaluation(sample):
    denoise, x = gaussian(), start()
    reached = sample(denoise, x, Levels.same(schedule(1, 0.02, 80)))
    expected = denoise(x, Levels.same(torch.tensor(80.0)))
    torch.testing.assert_close(reached.video, expected.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(reached.actions, expected.actions, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_denoiser_that_knows_the_answer_is_believed(sample, steps):
    knowing = gaussian()
    knowing.spread = 0.0
    reached = sample(knowing, start(), Levels.same(schedule(steps, 0.02, 80)))
    torch.testing.assert_close(reached.video, knowing.mean.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(reached.actions, knowing.mean.actions, rtol=0, atol=1e-4)


def test_float64_is_kept_and_finer(sample):
    denoise, x = gaussian(), start()
    coarse = sample(denoise, x, LEVELS)
    denoise.mean = denoise.mean.map(torch.Tensor.double)
    fine = sample(denoise, x.map(torch.Tensor.double), LEVELS.map(torch.Tensor.double))
    assert coarse.actions.dtype == torch.float32
    assert fine.actions.dtype == fine.video.dtype == torch.float64
    torch.testing.assert_close(coarse.actions.double(), fine.actions, rtol=0, atol=1e-4)
    assert not torch.equal(coarse.actions.double(), fine.actions)


def test_the_start_is_left_alone(sample):
    x = start()
    sample(gaussian(), x, LEVELS)
    assert torch.equal(x.video, start().video)
    assert torch.equal(x.actions, start().actions)


def test_a_sample_does_not_depend_on_its_batch(sample):
    x, denoise = start(), gaussian()
    together = sample(denoise, x, LEVELS)
    alone = FreezableGaussian(denoise.mean.map(lambda part: part[1:2]))
    by_itself = sample(alone, x.map(lambda part: part[1:2]), LEVELS)
    torch.testing.assert_close(together.video[1:2], by_itself.video)
    torch.testing.assert_close(together.actions[1:2], by_itself.actions)


@pytest.mark.parametrize("last", [0.5, 0.0])
def test_each_part_goes_by_its_own_clock(sample, last):
    """The video stops above zero, the actions go all the way; each ends where its own flow leads."""
    denoise, x = gaussian(), start()
    sigmas = schedule(400, 0.02, 80)
    levels = Levels(80 * (last / 80 + (1 - last / 80) * sigmas / 80), sigmas)
    reached, exact = sample(denoise, x, levels), denoise.flow(x, 80, 0)
    torch.testing.assert_close(reached.actions, exact.actions, rtol=0, atol=0.2)


def test_it_asks_the_head_at_the_pairs_that_it_names(name, sample):
    denoise, levels = gaussian(), Levels.same(schedule(6, 0.02, 80))
    sample(denoise, start(), levels)
    named = registry.module("samplers", name).asked(levels)
    pairs = set(zip(named.video.tolist(), named.actions.tolist(), strict=True))
    if denoise.frozen_at:
        # The frozen video is that of the level where it froze, whatever level the actions have come to.
        assert {pair[1] for pair in denoise.asked} == {pair[1] for pair in pairs}
        assert {pair[0] for pair in pairs} == set(denoise.frozen_at)
    else:
        assert set(denoise.asked) == pairs


def test_initial_noise_has_the_spread_of_a_noisy_unit_sample():
    x = drawn((2, 5, 4, 16, 16), (2, 32, 64), 3)
    assert x.video.shape == (2, 5, 4, 16, 16)
    assert x.actions.shape == (2, 32, 64)
    assert float(x.video.std()) == pytest.approx(sqrt(10), rel=0.05)
    assert float(x.actions.std()) == pytest.approx(sqrt(10), rel=0.05)
