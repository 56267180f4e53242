"""The actions are denoised ahead of the video: asynchronous noise sampling of X-WAM (2026, arXiv 2604.26694)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import (
    CLEAN,
    LEAST,
    MOST,
    SAME,
    FlowTime,
    Marginal,
    NoiseLaw,
    between,
    flow_level,
    inverse,
    middles,
)

# Parts of equal probability by which an expectation is computed.
PARTS = 10_000


@dataclass(frozen=True)
class Config(NoiseLaw):
    """t_actions ~ U(0, 1), t_video = t_actions + (1 - t_actions) x, x ~ Beta(alpha, 1); sigma = shift * t / (1 - t).

    In a share of the clips the actions are clean instead, their loss does not count, and t_video ~ U(0, 1): video given
    its actions.

    Attributes:
        clean: the share of the clips whose actions are clean.
        alpha: how far the video stays behind: the larger, the noisier it is.
        shift: of both parts.
    """

    clean: float = limited(0.5, 0, 0.99)
    alpha: float = limited(1.5, 1e-3, 1e3)
    shift: float = limited(5.0, 1e-3, 1e3)

    def __post_init__(self) -> None:
        check_limits(self, "levels")

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        chosen, alone, time, ahead = torch.rand((4, batch), generator=generator, device=generator.device)
        clean = chosen < self.clean
        video = torch.where(clean, alone, time + (1 - time) * ahead ** (1 / self.alpha))
        actions = flow_level(time, self.shift).masked_fill(clean, CLEAN)
        return Levels(flow_level(video, self.shift), actions)

    def counts(self, levels: Levels) -> tuple[Bool[Tensor, "*B"], Bool[Tensor, "*B"]]:
        """See `NoiseLaw.counts`: of the actions, those that are not clean."""
        return torch.ones_like(levels.video, dtype=torch.bool), levels.actions > CLEAN * (1 + SAME)

    def marginals(self) -> tuple[Marginal, Marginal]:
        """See `NoiseLaw.marginals`."""
        return VideoLevels(self), FlowTime(shift=self.shift)

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: pairs whose video is no less noisy than the actions."""
        return between(asked.actions, LEAST, MOST) and between(asked.video, asked.actions, MOST)

    @property
    def remedy(self) -> str:
        """See `NoiseLaw.remedy`."""
        return "keep the video at least as noisy as the actions, as it was taught"

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`: the noisier the actions, the noisier the video; all actions count."""
        video, actions = self.marginals()
        return Levels(middles(video, count), middles(actions, count))


@dataclass(frozen=True)
class VideoLevels:
    """The levels of the video, whatever those of the actions (`videopolicy.diffusion.noise.base.Marginal`).

    Attributes:
        law: of both.
    """

    law: Config

    def quantile(self, share: float) -> float:
        """See `Marginal.quantile`."""
        time = inverse(self._below, share, 0, 1)
        return float(flow_level(torch.tensor(time, dtype=torch.float64), self.law.shift))

    def _below(self, time: float) -> float:
        """The share of the flow times below this one: 1 - t_video is (1 - t_actions)(1 - x), and 1 - t_actions even."""
        ahead = 1 - _evenly(PARTS) ** (1 / self.law.alpha)
        behind = 1 - float(((1 - time) / ahead).clamp(max=1).mean())
        return self.law.clean * time + (1 - self.law.clean) * behind


def _evenly(parts: int) -> Float[Tensor, "n"]:
    return (torch.arange(parts, dtype=torch.float64) + 0.5) / parts
