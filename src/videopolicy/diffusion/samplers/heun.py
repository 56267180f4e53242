"""Heun's method (Karras et al. 2022, Algorithm 1 without churn): second order, two looks a step, one in the last."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.samplers.base import Denoise, Joint, slope


def sample(denoise: Denoise, x: Joint, sigmas: Float[Tensor, "n+1"]) -> Joint:
    """Takes x from sigmas[0] to sigmas[-1]; see `videopolicy.diffusion.samplers.base`."""
    for now, after in pairwise(sigmas):
        here = slope(denoise, x, now)
        ahead = x + (after - now) * here
        # At sigma 0 there is no slope to correct with: the step to it stays Euler's.
        x = ahead if after == 0 else x + (after - now) * (here + slope(denoise, ahead, after)) / 2
    return x
