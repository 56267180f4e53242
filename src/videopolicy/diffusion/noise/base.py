"""What a noise law is, and the distributions that laws are made of."""

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.joint import Levels
from videopolicy.errors import UserError

# Levels that differ by no more, as a share, are the same one in another precision.
SAME = 1e-3


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


class NoiseLaw(ABC):
    """Draws the noise levels of training; a frozen dataclass, chosen by the recipe and kept in the checkpoint."""

    @abstractmethod
    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """Levels of so many clips, (B,) each, drawn on the generator's device."""

    def resolve(self, sigma_max: float) -> "NoiseLaw":
        """The law for a model whose sampling starts at this level; most laws name all their levels themselves."""
        return self

    @abstractmethod
    def marginals(self) -> tuple[Marginal, Marginal]:
        """The levels at which the loss of the video is taken, and those of the actions."""

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
