"""Euler's method on the probability-flow ODE: first order, one look at the denoiser a step."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.samplers.base import Denoise, Joint, slope


def sample(denoise: Denoise, x: Joint, sigmas: Float[Tensor, "n+1"]) -> Joint:
    """Takes x from sigmas[0] to sigmas[-1]; see `videopolicy.diffusion.samplers.base`."""
    for now, after in pairwise(sigmas):
        x = x + (after - now) * slope(denoise, x, now)
    return x
