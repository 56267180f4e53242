"""Two independent levels (Zhu et al. 2025, UWM, arXiv 2504.02792; mimic-video and Fast-WAM do the same)."""

from dataclasses import dataclass

import torch

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import LogNormal, NoiseLaw, middles


@dataclass(frozen=True)
class Config(NoiseLaw):
    """The head learns to read features of video of every noisiness, whatever the noise on its actions.

    Attributes:
        video: levels of the video.
        actions: levels of the actions.
    """

    video: LogNormal = LogNormal(1.0, 1.6)
    actions: LogNormal = LogNormal(1.0, 1.6)

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        return Levels(self.video.sample(batch, generator), self.actions.sample(batch, generator))

    def marginals(self) -> tuple[LogNormal, LogNormal]:
        """See `NoiseLaw.marginals`."""
        return self.video, self.actions

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: every pair."""
        return True

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`: every level of either part once, each beside another's of the other part."""
        beside = [(2 * i + 1) % count for i in range(count)] if count % 2 else list(range(count))[::-1]
        return Levels(middles(self.video, count), middles(self.actions, count)[beside])
