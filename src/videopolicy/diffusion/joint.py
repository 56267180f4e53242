"""Video and actions as one value with arithmetic, so that a sampler or a loss is written once.

Letters: B batch, F flat frames, C latent channels, h and w latent size, A action steps, D action width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

# What multiplies both parts alike: a number, a 0-d tensor, or one value a sample, (B,).
Scale = float | Tensor


@dataclass(frozen=True, eq=False)
class Levels:
    """Noise levels sigma of the video and of the actions, or anything of that form (a step, a ratio, a weight).

    Two levels subtract and divide part by part, without `features`, which training alone has. Indexing leads from a
    schedule (n + 1,) to its levels, one after the other, and from a batch's to a clip's.

    Attributes:
        video: of the video, 0-d or one a sample, (B,).
        actions: of the actions, likewise.
        features: of the video whose features the head reads, where that is not `video`: the loss of the video and the
            head's features then come from two passes; None where they come from one.
    """

    video: Float[Tensor, "*B"]
    actions: Float[Tensor, "*B"]
    features: Float[Tensor, "*B"] | None = None

    @staticmethod
    def same(sigma: Float[Tensor, "*B"]) -> "Levels":
        """One level for both."""
        return Levels(sigma, sigma)

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Levels":
        """Applies a function to each part."""
        return Levels(fn(self.video), fn(self.actions), None if self.features is None else fn(self.features))

    def each(self, x: "Joint") -> "Levels":
        """One level a sample of x, (B,), on its device, which is told a single level as a number and never waits."""

        def of_each(level: Tensor) -> Tensor:
            return level if level.dim() else x.video.new_full((len(x.video),), float(level))

        return self.map(of_each)

    def read(self) -> "Levels":
        """Those of the pass whose features the head reads."""
        return Levels(self.video if self.features is None else self.features, self.actions)

    def log(self) -> "Levels":
        """The logarithm of each part."""
        return self.map(torch.log)

    def __iter__(self) -> "Iterator[Levels]":
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> "Levels":
        return self.map(lambda level: level[index])

    def __len__(self) -> int:
        return len(self.video)

    def __sub__(self, other: "Levels") -> "Levels":
        return Levels(self.video - other.video, self.actions - other.actions)

    def __rsub__(self, other: float) -> "Levels":
        return Levels(other - self.video, other - self.actions)

    def __truediv__(self, other: "Levels | float") -> "Levels":
        if isinstance(other, Levels):
            return Levels(self.video / other.video, self.actions / other.actions)
        return Levels(self.video / other, self.actions / other)

    def __mul__(self, other: "Joint") -> "Joint":
        return other * self


@dataclass(frozen=True, eq=False)
class Joint:
    """A video and its actions, or anything of that form (noise, a derivative, a guidance scale).

    Two joints add, subtract and multiply part by part. `Levels` multiply and divide each part by its own, a `Scale`
    both by one.

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

    def __mul__(self, other: "Joint | Levels | Scale") -> "Joint":
        if isinstance(other, Joint):
            return Joint(self.video * other.video, self.actions * other.actions)
        video, actions = _parts(other)
        return Joint(self.video * _per_sample(video, self.video), self.actions * _per_sample(actions, self.actions))

    def __rmul__(self, other: Scale) -> "Joint":
        return self * other

    def __truediv__(self, other: "Levels | Scale") -> "Joint":
        video, actions = _parts(other)
        return Joint(self.video / _per_sample(video, self.video), self.actions / _per_sample(actions, self.actions))

    def __neg__(self) -> "Joint":
        return self.map(torch.neg)

    def __pos__(self) -> "Joint":
        return self


class Denoise(Protocol):
    """The best guess of the clean sample."""

    def __call__(self, x: Joint, levels: Levels, /) -> Joint:
        """E[clean | x], for x at these noise levels: each a 0-d tensor, or one a sample, (B,)."""
        ...


@runtime_checkable
class Freezable(Denoise, Protocol):
    """A denoiser whose video can be left as noisy as it is, while the actions are denoised."""

    def video_alone(self, x: Joint, levels: Levels, /) -> Float[Tensor, "B F C h w"]:
        """The video of what it answers to x at these levels; the head does not run, where the video needs none."""
        ...

    def freeze(self, x: Joint, levels: Levels, /) -> Denoise:
        """Leaves the video as it is in x, at its level.

        Returns:
            A denoiser of the actions beside that video. It answers with the video denoised here; or, of a network that
            the actions enter, with the one denoised beside the actions that it is asked for.
        """
        ...


def _parts(scale: Levels | Scale) -> tuple[Scale, Scale]:
    return (scale.video, scale.actions) if isinstance(scale, Levels) else (scale, scale)


def _per_sample(scale: Scale, part: Tensor) -> Scale:
    if isinstance(scale, Tensor) and scale.dim() == 1:
        return scale.reshape(-1, *[1] * (part.dim() - 1))
    return scale
