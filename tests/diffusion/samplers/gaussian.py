"""A denoiser with a closed-form answer: data are normal with this mean and spread, each number by itself."""

from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor

from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers.base import initial_noise


def drawn(video: tuple[int, ...], actions: tuple[int, ...], sigma_max: float, seed: int = 0) -> Joint:
    """Where sampling starts, of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    noise = Joint(torch.randn(video, generator=generator), torch.randn(actions, generator=generator))
    return initial_noise(noise, Levels.same(torch.tensor(float(sigma_max))))


@dataclass
class Gaussian:
    mean: Joint
    spread: float = 0.7
    asked: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, x, levels):
        """Of a joint at its levels, or of a plain tensor at its own."""
        pair = (levels.video, levels.actions) if isinstance(levels, Levels) else (levels, levels)
        self.asked.append((float(pair[0]), float(pair[1])))

        def share(sigma):
            return self.spread**2 / (self.spread**2 + sigma**2)

        return self.mean + (x - self.mean) * (levels.map(share) if isinstance(levels, Levels) else share(levels))

    def flow(self, x: Joint, start: float, end: float) -> Joint:
        """Where the probability flow takes x: the distance to the mean keeps its share of the spread."""
        return self.mean + (x - self.mean) * sqrt((self.spread**2 + end**2) / (self.spread**2 + start**2))


@dataclass
class FreezableGaussian(Gaussian):
    frozen_at: list[float] = field(default_factory=list)
    video_asked: list[float] = field(default_factory=list)

    def video_alone(self, x: Joint, levels: Levels) -> Tensor:
        self.video_asked.append(float(levels.video))
        return Gaussian(self.mean, self.spread)(x, levels).video

    def freeze(self, x: Joint, levels: Levels) -> "Frozen":
        self.frozen_at.append(float(levels.video))
        return Frozen(self, self(x, levels).video)


@dataclass
class Frozen:
    inner: FreezableGaussian
    video: Tensor

    def __call__(self, x: Joint, levels: Levels) -> Joint:
        return Joint(self.video, self.inner(x, levels).actions)


@dataclass
class Twice:
    """Two denoisers as one of clips that stand in its batch twice, as guidance wants it."""

    conditional: FreezableGaussian
    unconditional: FreezableGaussian

    def __call__(self, x: Joint, levels: Levels) -> Joint:
        first, second = halves(x)
        return Joint.cat((self.conditional(first, levels), self.unconditional(second, levels)))

    def video_alone(self, x: Joint, levels: Levels) -> Tensor:
        first, second = halves(x)
        return torch.cat((self.conditional.video_alone(first, levels), self.unconditional.video_alone(second, levels)))

    def freeze(self, x: Joint, levels: Levels) -> "Twice":
        first, second = halves(x)
        return Twice(self.conditional.freeze(first, levels), self.unconditional.freeze(second, levels))


def halves(x: Joint) -> tuple[Joint, Joint]:
    clips = len(x.video) // 2
    return x.map(lambda part: part[:clips]), x.map(lambda part: part[clips:])
