"""What every sampler shares.

A sampler file defines `sample(denoise, x, sigmas) -> Joint`: x is noise at level sigmas[0] (see `initial_noise`), the
sigmas fall, and the result is x at the last of them. It follows the probability-flow ODE dx/dsigma = (x - D(x,
sigma)) / sigma (Karras et al. 2022, eq. 1 and 3) and uses arithmetic alone, so that a plain tensor does for a `Joint`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.joint import Denoise, Freezable, Joint

__all__ = ["Denoise", "Freezable", "Joint", "initial_noise", "slope"]


def initial_noise(noise: Joint, sigma_max: Float[Tensor, ""]) -> Joint:
    """Where sampling starts: standard noise times sqrt(1 + sigma_max^2), the spread of a noisy sample of unit data."""
    return noise * torch.sqrt(1 + sigma_max**2)


def slope(denoise: Denoise, x: Joint, sigma: Float[Tensor, ""]) -> Joint:
    """The right-hand side of the ODE, dx/dsigma."""
    return (x - denoise(x, sigma)) / sigma
