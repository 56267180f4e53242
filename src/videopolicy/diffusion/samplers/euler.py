"""Euler's method on the probability-flow ODE: first order, one function evaluation (NFE) a step."""

from itertools import pairwise

from videopolicy.diffusion.samplers.base import Denoise, Joint, Levels, asked, slope

__all__ = ["asked", "sample"]


def sample(denoise: Denoise, x: Joint, levels: Levels) -> Joint:
    """Takes x from levels[0] to levels[-1]; see `videopolicy.diffusion.samplers.base`."""
    for now, after in pairwise(levels):
        x = x + (after - now) * slope(denoise, x, now)
    return x
