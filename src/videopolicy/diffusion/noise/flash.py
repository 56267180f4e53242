"""Video mostly noise, actions at any level: DreamZero-Flash (Ye et al. 2026, arXiv 2602.15922).

It teaches the head to read actions out of video that a plan of few steps has hardly begun to denoise.
"""

from dataclasses import dataclass

import torch

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import FlowTime, NoiseLaw, middles, scattered


@dataclass(frozen=True)
class Config(NoiseLaw):
    """t_video ~ Beta(7, 1), t_actions ~ U(0, 1), independent; sigma = t / (1 - t).

    Attributes:
        video: levels of the video: Beta(7, 1) in the paper, Beta(3, 1) in the released configuration.
        actions: levels of the actions.
    """

    video: FlowTime = FlowTime(alpha=7.0)
    actions: FlowTime = FlowTime()

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        return Levels(self.video.sample(batch, generator), self.actions.sample(batch, generator))

    def marginals(self) -> tuple[FlowTime, FlowTime]:
        """See `NoiseLaw.marginals`."""
        return self.video, self.actions

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: every pair of levels that either part has."""
        return self.video.covers(asked.video) and self.actions.covers(asked.actions)

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`: every level of either part once, each beside another's of the other part."""
        return Levels(middles(self.video, count), scattered(middles(self.actions, count)))


EXAMPLE = Config(video=FlowTime(alpha=3.0))
