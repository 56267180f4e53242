import pytest
import torch
from tests.diffusion.samplers.gaussian import FreezableGaussian, Gaussian, Twice, drawn

from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler, one_pass

LEVELS = Levels.same(schedule(12, 0.02, 80))


def start() -> Joint:
    return drawn((2, 3, 2, 4, 4), (2, 6, 3), 80)


def gaussian(seed: int) -> FreezableGaussian:
    return FreezableGaussian(Joint.randn_like(start(), torch.Generator().manual_seed(seed)))


def test_the_video_model_runs_once_and_its_video_stays():
    denoise, x = gaussian(1), start()
    reached = one_pass.sample(denoise, x, LEVELS)
    assert len(denoise.frozen_at) == 1
    torch.testing.assert_close(reached.video, denoise(x, LEVELS[0]).video, rtol=0, atol=1e-4)


def test_the_actions_are_those_of_euler():
    denoise, x = gaussian(1), start()
    assert torch.equal(one_pass.sample(denoise, x, LEVELS).actions, euler.sample(denoise, x, LEVELS).actions)


def test_a_guided_denoiser_freezes_both_branches_in_one_pass():
    both, x = Twice(gaussian(1), gaussian(2)), start()
    guided = LinearGuidance(1.0, 2.5).guided(both)
    reached = one_pass.sample(guided, x, LEVELS)
    assert len(both.conditional.frozen_at) == len(both.unconditional.frozen_at) == 1
    torch.testing.assert_close(reached.video, guided(x, LEVELS[0]).video, rtol=0, atol=1e-4)
    torch.testing.assert_close(reached.actions, euler.sample(guided, x, LEVELS).actions)


def test_a_denoiser_that_cannot_freeze_is_refused_by_name():
    plain = Gaussian(gaussian(1).mean)
    with pytest.raises(TypeError, match="Gaussian has none"):
        one_pass.sample(plain, start(), LEVELS)
    with pytest.raises(TypeError, match="what it guides"):
        one_pass.sample(LinearGuidance().guided(plain), start(), LEVELS)
