"""The head reads a future that is nearly done: the inverse dynamics of LingBot-VA (2026, arXiv 2601.21998).

Fast-WAM-IDM does the same with levels up to pure noise. Acting takes a video that is denoised first, in sampler
`cascade`: to a level above zero, and then the actions.
"""

from dataclasses import dataclass

import torch

from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import CLEAN, Distribution, FlowTime, NoiseLaw, between, middles, scattered


@dataclass(frozen=True)
class Config(NoiseLaw):
    """The video whose features are read is clean in a share of the clips, else at t ~ U(0, 1/2); sigma = t / (1 - t).

    The video's own loss, in a stage that has one, is taken at its own levels, in a pass of its own.

    Attributes:
        clean: the share of the clips whose head reads the true future as it is.
        read: levels of the video that the head reads in the others.
        video: levels of the video's own loss.
        actions: levels of the actions.
    """

    clean: float = limited(0.5, 0, 1)
    read: FlowTime = FlowTime(last=0.5)
    video: Distribution = FlowTime(shift=5.0)
    actions: Distribution = FlowTime()

    def __post_init__(self) -> None:
        check_limits(self, "levels")

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        video, actions = self.video.sample(batch, generator), self.actions.sample(batch, generator)
        read = self.read.sample(batch, generator)
        clean = torch.rand((batch,), generator=generator, device=generator.device) < self.clean
        return Levels(video, actions, read.masked_fill(clean, CLEAN))

    def marginals(self) -> tuple[Distribution, Distribution]:
        """See `NoiseLaw.marginals`."""
        return self.video, self.actions

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: pairs whose video is no noisier than `read` has it."""
        return between(asked.video, CLEAN, self._highest)

    @property
    def remedy(self) -> str:
        """See `NoiseLaw.remedy`."""
        return f"sample by cascade with --video-until {self._highest:g} or less, as it was taught"

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`: the head reads levels as evenly spread over all that it may."""
        video, actions = middles(self.video, count), scattered(middles(self.actions, count))
        return Levels(video, actions, middles(ReadLevels(self), count))

    @property
    def _highest(self) -> float:
        return self.read.quantile(1) if self.clean < 1 else CLEAN


@dataclass(frozen=True)
class ReadLevels:
    """The levels of the video that the head reads (`videopolicy.diffusion.noise.base.Marginal`).

    Attributes:
        law: that draws them.
    """

    law: Config

    def quantile(self, share: float) -> float:
        """See `Marginal.quantile`."""
        clean = self.law.clean
        return CLEAN if share <= clean else self.law.read.quantile((share - clean) / (1 - clean))
