"""The head reads features of pure noise (Hu et al. 2024, VPP, arXiv 2412.14803, section 4.2; DiT4DiT does the same)."""

from dataclasses import dataclass

import torch

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import LogNormal, NoiseLaw, check_level, middles, nearly


@dataclass(frozen=True)
class Config(NoiseLaw):
    """The video whose features are read is always at one high level, so that acting takes one pass of the video model.

    The video's own loss, in a stage that has one, is taken at its own levels, in a pass of its own.

    Attributes:
        sigma: level of the video whose features are read; `one_pass` acts at it if sampling begins there.
        video: levels of the video's own loss.
        actions: levels of the actions.
    """

    sigma: float = 80.0
    video: LogNormal = LogNormal(1.0, 1.6)
    actions: LogNormal = LogNormal(1.0, 1.6)

    def __post_init__(self) -> None:
        check_level("sigma of a pinned noise law", self.sigma)

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        video, actions = self.video.sample(batch, generator), self.actions.sample(batch, generator)
        return Levels(video, actions, torch.full_like(video, self.sigma))

    def marginals(self) -> tuple[LogNormal, LogNormal]:
        """See `NoiseLaw.marginals`."""
        return self.video, self.actions

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: pairs whose video is at `sigma`."""
        return nearly(asked.video, self.sigma)

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`."""
        video, actions = middles(self.video, count), middles(self.actions, count)
        return Levels(video, actions, torch.full_like(video, self.sigma))
