"""Guidance to an earlier plan (Black et al. 2025, arXiv 2506.07339)."""

import math

import pytest
import torch

from videopolicy.diffusion.inpainting import Earlier, soft_mask
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler


def test_the_mask_is_the_papers():
    """Equation 5 with 2 committed of 6 planned in a chunk of 8."""
    mask = soft_mask(2, 6, 8)
    fall = [(6 - i) / 5 for i in range(2, 6)]
    assert mask.tolist() == pytest.approx([1, 1, *(c * (math.e**c - 1) / (math.e - 1) for c in fall), 0, 0])
    assert soft_mask(0, 0, 4).tolist() == [0] * 4 and soft_mask(4, 4, 4).tolist() == [1] * 4


def gaussian(mean, spread):
    """The exact denoiser of normal actions whose steps are all the mean and one shared deviation."""

    def denoise(x, levels):
        sigma = levels.each(x).actions[:, None, None]
        steps = x.actions.shape[1]
        shared = (x.actions - mean).mean(1, keepdim=True) * spread**2 / (spread**2 + sigma**2 / steps)
        return Joint(x.video, mean + shared.expand_as(x.actions))

    return denoise


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_open_steps_follow_the_committed_ones_as_the_data_say(weight):
    """Steps that always move together: where two are committed, the others are drawn to the same place."""
    torch.manual_seed(0)
    target = torch.full((64, 4, 1), 3.0)
    target[:, 2:] = float("nan")
    earlier = Earlier(target, torch.tensor([weight, weight, 0, 0]).expand(64, 4), torch.full((64,), 5.0))
    levels = Levels.same(torch.cat((torch.logspace(1, -2, 30), torch.zeros(1))))
    x = Joint(torch.zeros(64, 1, 1, 1, 1), 10 * torch.randn(64, 4, 1))
    drawn = euler.sample(earlier.draw_on(gaussian(0.0, 1.0)), x, levels).actions
    assert torch.isfinite(drawn).all()
    off = (drawn[:, 2:] - 3).abs().mean()
    assert off < 0.3 if weight else off > 1.5


def test_the_guidance_is_the_derivative_within_its_limit():
    """Of a linear denoiser a x at level s, min(1 + s^2, limit s) a (y - a x) is added."""
    earlier = Earlier(torch.ones(1, 1, 1), torch.ones(1, 1), torch.full((1,), 5.0))
    guided = earlier.draw_on(lambda x, levels: Joint(x.video, 0.5 * x.actions))
    x = Joint(torch.zeros(1, 1, 1, 1, 1), torch.full((1, 1, 1), 0.4))
    for sigma, scale in ((0.1, 0.5), (1.0, 2.0), (10.0, 50.0)):
        answer = guided(x, Levels.same(torch.tensor(sigma))).actions.item()
        assert answer == pytest.approx(0.2 + scale * 0.5 * (1 - 0.2), rel=1e-5)
