"""One level for video and actions (Liang et al. 2025, Video Policy)."""

from dataclasses import dataclass

import torch

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import LogNormal, NoiseLaw, middles, nearly


@dataclass(frozen=True)
class Config(NoiseLaw):
    """sigma_video = sigma_actions: the head reads features of video that is as noisy as its actions.

    Attributes:
        levels: of both; the default is what the authors of Video Policy trained with.
    """

    levels: LogNormal = LogNormal(1.0, 1.6)

    def marginals(self) -> tuple[LogNormal, LogNormal]:
        """See `NoiseLaw.marginals`."""
        return self.levels, self.levels

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        return Levels.same(self.levels.sample(batch, generator))

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: pairs of one level."""
        return nearly(asked.video, asked.actions)

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`."""
        return Levels.same(middles(self.levels, count))
