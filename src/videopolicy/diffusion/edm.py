"""Noise levels and preconditioning of EDM (Karras et al. 2022, arXiv 2206.00364), v-prediction, sigma_data = 1.

A noisy sample is x = clean + sigma * noise. The denoiser is D(x, sigma) = skip * x + out * F(inp * x, noise) for a
network F; with these coefficients F learns v = (noise - sigma * clean) / sqrt(sigma^2 + 1).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Coefficients:
    """What surrounds the network, each of sigma's shape: c_skip, c_out, c_in and c_noise of Karras et al., eq. 7."""

    skip: Float[Tensor, "..."]
    out: Float[Tensor, "..."]
    inp: Float[Tensor, "..."]
    noise: Float[Tensor, "..."]


class Preconditioning(Protocol):
    """What surrounds the network, as a function of the noise level."""

    def __call__(self, sigma: Float[Tensor, "..."], /) -> Coefficients:
        """The coefficients at these noise levels."""
        ...


@dataclass(frozen=True)
class Scaling:
    """Preconditioning of Karras et al. 2022, Table 1, at sigma_data = 1 and with the sign of v-prediction."""

    def __call__(self, sigma: Float[Tensor, "..."]) -> Coefficients:
        """The coefficients at these noise levels; sigma is positive."""
        power = sigma**2 + 1
        return Coefficients(skip=1 / power, out=-sigma / power.sqrt(), inp=1 / power.sqrt(), noise=sigma.log() / 4)


def weight(sigma: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The loss weight lambda = (sigma^2 + 1) / sigma^2 = 1 / c_out^2 (Karras et al. 2022, Table 1)."""
    return (sigma**2 + 1) / sigma**2


def ramp(share: Float[Tensor, "..."], sigma_min: float, sigma_max: float, rho: float = 7) -> Float[Tensor, "..."]:
    """The noise level so far along sampling: sigma_max at 0, sigma_min at 1 (Karras et al. 2022, eq. 5).

    Args:
        share: of the way, 0 to 1.
        sigma_min: the last level above 0.
        sigma_max: the first level.
        rho: how much the levels crowd towards sigma_min; 1 spaces them evenly.
    """
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + share * (low - high)) ** rho


def ramp_share(sigma: Float[Tensor, "..."], sigma_min: float, sigma_max: float, rho: float = 7) -> Float[Tensor, "..."]:
    """How far along sampling a noise level lies: the inverse of `ramp`."""
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high - sigma ** (1 / rho)) / (high - low)


def schedule(steps: int, sigma_min: float, sigma_max: float, rho: float = 7) -> Float[Tensor, "n+1"]:
    """The noise levels of sampling, falling from sigma_max to sigma_min, then 0 (Karras et al. 2022, eq. 5).

    One step goes from sigma_max straight to 0.

    Args:
        steps: n, at least 1: the function evaluations of a first-order sampler.
        sigma_min: the last level above 0.
        sigma_max: the first level.
        rho: how much the levels crowd towards sigma_min; 1 spaces them evenly.
    """
    sigmas = ramp(torch.linspace(0, 1, steps, dtype=torch.float64), sigma_min, sigma_max, rho)
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()
