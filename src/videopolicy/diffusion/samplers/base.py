"""What every sampler shares.

A sampler file defines `sample(denoise, x, levels) -> Joint`: x is noise at levels[0] (see `initial_noise`), the levels
fall, and the result is x at the last of them. It follows the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma
(Karras et al. 2022, eq. 1 and 3), each part by its own clock, and uses arithmetic alone, so that plain tensors do for a
`Joint` and its `Levels`. It also defines `asked(levels) -> Levels`: the pairs at which it asks the head, (n,).
"""

import torch
from torch import Tensor

from videopolicy.diffusion.joint import Denoise, Freezable, Joint, Levels

__all__ = ["Denoise", "Freezable", "Joint", "Levels", "asked", "at_zero", "freezable", "initial_noise", "slope"]


def initial_noise(noise: Joint, first: Levels) -> Joint:
    """Where sampling starts: standard noise times sqrt(1 + sigma^2), the spread of a noisy sample of unit data."""
    return noise * first.map(lambda sigma: torch.sqrt(1 + sigma**2))


def slope(denoise: Denoise, x: Joint, levels: Levels) -> Joint:
    """The right-hand side of the ODE, dx/dsigma."""
    return (x - denoise(x, levels)) / levels


def freezable(sampler: str, denoise: Denoise) -> Freezable:
    """The same denoiser, for a sampler that freezes it.

    Raises:
        TypeError: it cannot be frozen.
    """
    if not isinstance(denoise, Freezable):
        raise TypeError(f"{sampler} needs a denoiser with `freeze`; {type(denoise).__name__} has none")
    return denoise


def at_zero(levels: Levels | Tensor) -> bool:
    """Whether a part is clean at these levels, where the ODE has no slope."""
    if isinstance(levels, Levels):
        return bool(levels.video == 0) or bool(levels.actions == 0)
    return bool(levels == 0)


def asked(levels: Levels) -> Levels:
    """The pairs at which a sampler asks that denoises video and actions side by side: every level but the last."""
    return levels[:-1]
