"""Two independent levels (Zhu et al. 2025, UWM, arXiv 2504.02792; mimic-video and Fast-WAM do the same)."""

from dataclasses import dataclass

import torch

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import Distribution, LogNormal, NoiseLaw, middles, scattered


@dataclass(frozen=True)
class Config(NoiseLaw):
    """The head learns to read features of video of every noisiness, whatever the noise on its actions.

    Attributes:
        video: levels of the video.
        actions: levels of the actions.
    """

    video: Distribution = LogNormal(1.0, 1.6)
    actions: Distribution = LogNormal(1.0, 1.6)

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        return Levels(self.video.sample(batch, generator), self.actions.sample(batch, generator))

    def marginals(self) -> tuple[Distribution, Distribution]:
        """See `NoiseLaw.marginals`."""
        return self.video, self.actions

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: every pair."""
        return True

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`: every level of either part once, each beside another's of the other part."""
        return Levels(middles(self.video, count), scattered(middles(self.actions, count)))
