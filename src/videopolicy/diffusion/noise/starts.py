"""One level for video and actions, at or a little below those that a sampler of few steps asks at.

For a student that is distilled to take a few long steps, and is asked nowhere else.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.edm import ramp, ramp_share
from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import SAME, Marginal, NoiseLaw, check_level, middles, nearly
from videopolicy.errors import UserError


@dataclass(frozen=True)
class Config(NoiseLaw):
    """sigma_video = sigma_actions = ramp((i + width v) / steps), step i and v from 0 to 1 drawn evenly.

    The way of sampling (Karras et al. 2022, eq. 5) is cut into `steps` segments; a level lies at the start of one.

    Attributes:
        steps: segments.
        width: the share of a segment from its start on in which levels lie.
        sigma_min: where the last segment ends.
        sigma_max: where the first begins; None is the level at which the model's sampling starts.
    """

    steps: int = limited(1, 1, 1000)
    width: float = limited(0.05, 0, 1)
    sigma_min: float = 0.02
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        check_limits(self, "levels")
        check_level("sigma_min of noise law 'starts'", self.sigma_min)
        if self.sigma_max is not None:
            check_level("sigma_max of noise law 'starts'", self.sigma_max)

    def resolve(self, sigma_max: float) -> "Config":
        """See `NoiseLaw.resolve`."""
        return replace(self, sigma_max=sigma_max) if self.sigma_max is None else self

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        return Levels.same(self._level(torch.rand((batch,), generator=generator, device=generator.device)))

    def marginals(self) -> tuple[Marginal, Marginal]:
        """See `NoiseLaw.marginals`."""
        return self, self

    def quantile(self, share: float) -> float:
        """See `Marginal.quantile`."""
        return float(self._level(torch.tensor(1 - share, dtype=torch.float64)))

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: pairs of one level, each at the start of a segment."""
        # A level that sampling starts a segment at may be rounded to just above it.
        place = ramp_share(asked.video * (1 - SAME), self.sigma_min, self._highest) * self.steps
        inside = (place >= 0) & (place < self.steps) & (place % 1 <= self.width + 3 * SAME * self.steps)
        return nearly(asked.video, asked.actions) and bool(inside.all())

    @property
    def remedy(self) -> str:
        """See `NoiseLaw.remedy`."""
        return f"sample in {self.steps} step{'s' * (self.steps > 1)}, as it was taught"

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`."""
        return Levels.same(middles(self, count))

    def _level(self, share: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The level that so large a share of all levels lies above."""
        place = share * self.steps
        first = place.floor().clamp(max=self.steps - 1)
        return ramp((first + (place - first) * self.width) / self.steps, self.sigma_min, self._highest)

    @property
    def _highest(self) -> float:
        if self.sigma_max is None:
            raise UserError("noise law 'starts' needs the level at which sampling starts; see `resolve`")
        return self.sigma_max


EXAMPLE = Config(steps=2, sigma_max=10.0)
