"""Heun's method (Karras et al. 2022, Algorithm 1 without churn): second order, two NFE a step, one in the last."""

from itertools import pairwise

from videopolicy.diffusion.samplers.base import Denoise, Joint, Levels, asked, at_zero, slope

__all__ = ["asked", "sample"]


def sample(denoise: Denoise, x: Joint, levels: Levels) -> Joint:
    """Takes x from levels[0] to levels[-1]; see `videopolicy.diffusion.samplers.base`."""
    for now, after in pairwise(levels):
        here = slope(denoise, x, now)
        predicted = x + (after - now) * here
        # At sigma 0 there is no slope to correct with: the step to it stays Euler's.
        x = predicted if at_zero(after) else x + (after - now) * (here + slope(denoise, predicted, after)) / 2
    return x
