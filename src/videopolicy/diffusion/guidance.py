"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) that grows over the frames, as SVD's does."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.joint import Denoise, Freezable, Joint, Levels


@dataclass(frozen=True)
class LinearGuidance:
    """A scale linear from `first` to `last` over the F flat frames, and again over the A action steps.

    A scale of 1 is no guidance.
    """

    first: float = limited(1.0, 0, 1000)
    last: float = limited(2.5, 0, 1000)

    def __post_init__(self) -> None:
        check_limits(self, "guidance")

    @property
    def off(self) -> bool:
        """Whether every scale is 1, so that the unconditional branch cannot matter."""
        return self.first == self.last == 1

    def scale(self, x: Joint) -> Joint:
        """The scales for a sample of x's shapes: video (1, F, 1, 1, 1), actions (1, A, 1)."""
        video, actions = self._ramp(x.video), self._ramp(x.actions)
        return Joint(video[None, :, None, None, None], actions[None, :, None])

    def combine(self, conditional: Joint, unconditional: Joint) -> Joint:
        """The guess u + scale * (c - u), from the conditional c and the unconditional u."""
        return unconditional + self.scale(conditional) * (conditional - unconditional)

    def guided(self, conditional: Denoise, unconditional: Denoise) -> Denoise:
        """A denoiser guided away from the unconditional one, which is never called if the guidance is off."""
        return conditional if self.off else _Guided(self, conditional, unconditional)

    def _ramp(self, part: Tensor) -> Float[Tensor, "n"]:
        return torch.linspace(self.first, self.last, part.shape[1], dtype=part.dtype, device=part.device)


@dataclass(frozen=True)
class _Guided:
    guidance: LinearGuidance
    conditional: Denoise
    unconditional: Denoise

    def __call__(self, x: Joint, levels: Levels, /) -> Joint:
        return self.guidance.combine(self.conditional(x, levels), self.unconditional(x, levels))

    def freeze(self, x: Joint, levels: Levels, /) -> Denoise:
        if not (isinstance(self.conditional, Freezable) and isinstance(self.unconditional, Freezable)):
            raise TypeError("both branches of a guided denoiser need `freeze` before it can be frozen")
        return _Guided(self.guidance, self.conditional.freeze(x, levels), self.unconditional.freeze(x, levels))
