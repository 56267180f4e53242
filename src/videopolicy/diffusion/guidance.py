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

    def guided(self, both: Denoise) -> Freezable:
        """A denoiser guided away from the unconditional one.

        Args:
            both: denoises clips that stand in its batch twice, the second time without what they go by: one pass for
                both branches.
        """
        return _Guided(self, both)

    def _ramp(self, part: Tensor) -> Float[Tensor, "n"]:
        return torch.linspace(self.first, self.last, part.shape[1], dtype=part.dtype, device=part.device)


@dataclass(frozen=True)
class _Guided:
    guidance: LinearGuidance
    both: Denoise

    def __call__(self, x: Joint, levels: Levels, /) -> Joint:
        denoised, clips = self.both(_twice(x), _each_twice(levels)), len(x.video)
        conditional, unconditional = denoised.map(lambda part: part[:clips]), denoised.map(lambda part: part[clips:])
        return self.guidance.combine(conditional, unconditional)

    def freeze(self, x: Joint, levels: Levels, /) -> Denoise:
        return _Guided(self.guidance, self._freezable().freeze(_twice(x), _each_twice(levels)))

    def video_alone(self, x: Joint, levels: Levels, /) -> Float[Tensor, "B F C h w"]:
        both = self._freezable().video_alone(_twice(x), _each_twice(levels))
        conditional, unconditional = (Joint(part, x.actions) for part in both.split(len(x.video)))
        return self.guidance.combine(conditional, unconditional).video

    def _freezable(self) -> Freezable:
        if not isinstance(self.both, Freezable):
            raise TypeError("a guided denoiser can be frozen only if what it guides has `freeze`")
        return self.both


def _twice(x: Joint) -> Joint:
    return Joint.cat((x, x))


def _each_twice(levels: Levels) -> Levels:
    """One level for all stays; one a sample is each sample's twice."""
    return levels.map(lambda level: torch.cat((level, level)) if level.dim() else level)
