"""What a noise law is, and the distributions that laws are made of."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from math import exp, log
from statistics import NormalDist
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.joint import Levels
from videopolicy.errors import UserError

# Levels that differ by no more, as a share, are the same one in another precision.
SAME = 1e-3
# Levels without a bound of their own, such as those of flow time 0 and 1, are kept within these: their logarithms stay
# finite, and beyond either of them nothing changes that a network could tell.
LEAST, MOST = 0.002, 1000.0
# What is shown clean has the smallest level.
CLEAN = LEAST


class Marginal(Protocol):
    """The distribution of one part's noise levels."""

    def quantile(self, share: float) -> float:
        """The level that so large a share of all levels, 0 to 1, lies below."""
        ...


@dataclass(frozen=True)
class LogNormal:
    """ln sigma ~ N(mean, std^2) (Karras et al. 2022, Table 1)."""

    mean: float = limited(MISSING, -50, 50)
    std: float = limited(MISSING, 0, 50)

    def __post_init__(self) -> None:
        check_limits(self, "levels")

    def sample(self, batch: int, generator: torch.Generator) -> Float[Tensor, "B"]:
        """Draws sigmas on the generator's device."""
        normal = torch.randn((batch,), generator=generator, device=generator.device)
        return (self.mean + self.std * normal).exp()

    def quantile(self, share: float) -> float:
        """See `Marginal.quantile`."""
        # The standard normal's, as NormalDist refuses a deviation of 0.
        return float(np.exp(self.mean + self.std * NormalDist().inv_cdf(share)))


class Inverted(ABC):
    """A distribution that is known by its quantiles: an even number from 0 to 1 becomes a level."""

    def sample(self, batch: int, generator: torch.Generator) -> Float[Tensor, "B"]:
        """Draws sigmas on the generator's device."""
        return self._level(torch.rand((batch,), generator=generator, device=generator.device))

    def quantile(self, share: float) -> float:
        """See `Marginal.quantile`."""
        return float(self._level(torch.tensor(share, dtype=torch.float64)))

    @abstractmethod
    def _level(self, share: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The level that so large a share of all levels lies below."""


@dataclass(frozen=True)
class LogLogistic(Inverted):
    """ln sigma = mean + scale * ln(u / (1 - u)), u ~ U(0, 1), within LEAST and MOST (VPP's policy has this law).

    Its tails are heavier than a log-normal one's: levels far above the median are drawn now and then.
    """

    mean: float = limited(MISSING, -50, 50)
    scale: float = limited(MISSING, 0, 50)

    def __post_init__(self) -> None:
        check_limits(self, "levels")

    def _level(self, share: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return (self.mean + self.scale * share.logit()).exp().clamp(LEAST, MOST)


@dataclass(frozen=True)
class HighTail:
    """ln sigma ~ N(mean, std^2) but for a share that is log-uniform from `low` to MOST (mimic-video's, Cosmos's law).

    So that a level of all but pure noise, at which sampling starts, is learnt too.
    """

    mean: float = limited(MISSING, -50, 50)
    std: float = limited(MISSING, 1e-3, 50)
    share: float = limited(0.05, 0, 1)
    low: float = limited(200.0, LEAST, MOST)

    def __post_init__(self) -> None:
        check_limits(self, "levels")

    def sample(self, batch: int, generator: torch.Generator) -> Float[Tensor, "B"]:
        """Draws sigmas on the generator's device."""
        normal = torch.randn((batch,), generator=generator, device=generator.device)
        chosen, place = torch.rand((2, batch), generator=generator, device=generator.device)
        tail = log(self.low) + place * log(MOST / self.low)
        return torch.where(chosen < self.share, tail, self.mean + self.std * normal).exp()

    def quantile(self, share: float) -> float:
        """See `Marginal.quantile`."""
        normal, width = NormalDist(self.mean, self.std), log(MOST / self.low)

        def below(level: float) -> float:
            tail = min(max((level - log(self.low)) / width, 0), 1) if width else float(level >= log(self.low))
            return self.share * tail + (1 - self.share) * normal.cdf(level)

        return exp(inverse(below, share, -500, 500))


@dataclass(frozen=True)
class FlowTime(Inverted):
    """sigma = shift * t / (1 - t), t = last * u^(1 / alpha), u ~ U(0, 1), within LEAST and MOST: a flow model's levels.

    Flow time t is 1 in pure noise. With last = 1 it is t ~ Beta(alpha, 1): uniform with alpha = 1, and the noisier the
    larger alpha is. The shift is that of Esser et al. 2024, arXiv 2403.03206, eq. 23.
    """

    alpha: float = limited(1.0, 1e-3, 1e3)
    shift: float = limited(1.0, 1e-3, 1e3)
    last: float = limited(1.0, 1e-3, 1)

    def __post_init__(self) -> None:
        check_limits(self, "levels")

    def covers(self, sigma: Float[Tensor, "n"]) -> bool:
        """Whether all levels are among those that it draws."""
        return between(sigma, LEAST, self.quantile(1))

    def _level(self, share: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return flow_level(self.last * share ** (1 / self.alpha), self.shift)


# What a law may draw the levels of a part from.
Distribution = LogNormal | LogLogistic | HighTail | FlowTime


class NoiseLaw(ABC):
    """Draws the noise levels of training; a frozen dataclass, chosen by the recipe and kept in the checkpoint."""

    @abstractmethod
    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """Levels of so many clips, (B,) each, drawn on the generator's device."""

    def counts(self, levels: Levels) -> tuple[Bool[Tensor, "*B"], Bool[Tensor, "*B"]]:
        """Where the loss of the video counts, and where that of the actions, of levels that it drew; most count both.

        A part that is shown clean has nothing to denoise, and is there for the other.
        """
        return torch.ones_like(levels.video, dtype=torch.bool), torch.ones_like(levels.actions, dtype=torch.bool)

    def resolve(self, sigma_max: float) -> "NoiseLaw":
        """The law for a model whose sampling starts at this level; most laws name all their levels themselves."""
        return self

    @abstractmethod
    def marginals(self) -> tuple[Marginal, Marginal]:
        """The levels at which the loss of the video counts, and those at which that of the actions does."""

    @abstractmethod
    def covers(self, asked: Levels) -> bool:
        """Whether the head is trained at these pairs of levels, (n,): of the video that it reads, and its own.

        A level that a distribution reaches at all is covered; no claim is made about how well.
        """

    @property
    def remedy(self) -> str:
        """What to do, if a sampler that asks elsewhere is wanted."""
        return "train by noise law 'independent'"

    @abstractmethod
    def grid(self, count: int) -> Levels:
        """Levels at which a loss is measured again and again, (count,): the middles of as many equal shares."""


def flow_level(time: Float[Tensor, "*B"], shift: float) -> Float[Tensor, "*B"]:
    """The level of flow time t, 0 to 1: sigma = shift * t / (1 - t), within LEAST and MOST."""
    return (shift * time / (1 - time)).clamp(LEAST, MOST)


def inverse(function: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where between two arguments a function that never falls reaches a value, by bisection."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) >= value else (middle, high)
    return (low + high) / 2


def middles(marginal: Marginal, count: int) -> Float[Tensor, "n"]:
    """The levels in the middle of `count` parts of a distribution, all of the same probability, lowest first."""
    return torch.tensor([marginal.quantile((i + 0.5) / count) for i in range(count)], dtype=torch.float64)


def check_level(name: str, sigma: float) -> None:
    """Raises UserError unless a noise level is a positive number."""
    if not 0 < sigma < float("inf"):
        raise UserError(f"{name} is {sigma}; a noise level is above 0")


def nearly(one: Tensor, other: Tensor | float) -> bool:
    """Whether all levels agree up to rounding."""
    return bool(((one - other).abs() <= SAME * one.abs()).all())


def between(sigma: Tensor, least: Tensor | float, most: Tensor | float) -> bool:
    """Whether all levels lie between these two, up to rounding."""
    return bool(((sigma >= least * (1 - SAME)) & (sigma <= most * (1 + SAME))).all())


def scattered(levels: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The same levels in an order in which each comes beside another of a part whose levels rise."""
    count = len(levels)
    return levels[[(2 * i + 1) % count for i in range(count)] if count % 2 else list(range(count))[::-1]]
