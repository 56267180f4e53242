"""Video and actions as one value with arithmetic, so that a sampler or a loss is written once.

Letters: B batch, F flat frames, C latent channels, h and w latent size, A action steps, D action width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

# What multiplies both parts alike: a number, a 0-d tensor, or one value a sample, (B,).
Scale = float | Tensor


@dataclass(frozen=True, eq=False)
class Joint:
    """A video and its actions, or anything of that form (noise, a derivative, a guidance scale).

    Two joints add, subtract and multiply part by part. A `Scale` multiplies and divides both parts.

    Attributes:
        video: latents of flat frames.
        actions: normalised actions.
    """

    video: Float[Tensor, "B F C h w"]
    actions: Float[Tensor, "B A D"]

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Joint":
        """Applies a function to each part."""
        return Joint(fn(self.video), fn(self.actions))

    @staticmethod
    def randn_like(x: "Joint", generator: torch.Generator) -> "Joint":
        """Standard normal noise of x's shapes, drawn where the generator lives and moved to x's device."""

        def draw(part: Tensor) -> Tensor:
            noise = torch.randn(part.shape, generator=generator, device=generator.device, dtype=part.dtype)
            return noise.to(part.device)

        return x.map(draw)

    @staticmethod
    def cat(joints: Sequence["Joint"]) -> "Joint":
        """Joins samples along the batch."""
        return Joint(torch.cat([j.video for j in joints]), torch.cat([j.actions for j in joints]))

    def __add__(self, other: "Joint") -> "Joint":
        return Joint(self.video + other.video, self.actions + other.actions)

    def __sub__(self, other: "Joint") -> "Joint":
        return Joint(self.video - other.video, self.actions - other.actions)

    def __mul__(self, other: "Joint | Scale") -> "Joint":
        if isinstance(other, Joint):
            return Joint(self.video * other.video, self.actions * other.actions)
        return self.map(lambda part: part * _per_sample(other, part))

    def __rmul__(self, other: Scale) -> "Joint":
        return self * other

    def __truediv__(self, other: Scale) -> "Joint":
        return self.map(lambda part: part / _per_sample(other, part))

    def __neg__(self) -> "Joint":
        return self.map(torch.neg)

    def __pos__(self) -> "Joint":
        return self


class Denoise(Protocol):
    """The best guess of the clean sample."""

    def __call__(self, x: Joint, sigma: Float[Tensor, "*B"], /) -> Joint:
        """E[clean | x], for x at noise level sigma: a 0-d tensor, or one level a sample, (B,)."""
        ...


@runtime_checkable
class Freezable(Denoise, Protocol):
    """A denoiser whose video model can be run once and then left alone."""

    def freeze(self, x: Joint, sigma: Float[Tensor, "*B"], /) -> Denoise:
        """Runs the video model on x at sigma.

        Returns:
            A denoiser that always answers with the video denoised here, and reads actions out of these features.
        """
        ...


def _per_sample(scale: Scale, part: Tensor) -> Scale:
    if isinstance(scale, Tensor) and scale.dim() == 1:
        return scale.reshape(-1, *[1] * (part.dim() - 1))
    return scale
