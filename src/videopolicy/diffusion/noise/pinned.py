"""The head reads features of pure noise (Hu et al. 2024, VPP, arXiv 2412.14803, section 4.2; DiT4DiT does the same)."""

from dataclasses import dataclass, replace

import torch

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import Distribution, LogNormal, NoiseLaw, check_level, middles, nearly
from videopolicy.errors import UserError


@dataclass(frozen=True)
class Config(NoiseLaw):
    """The video whose features are read is always at one high level, so that acting takes one pass of the video model.

    The video's own loss, in a stage that has one, is taken at its own levels, in a pass of its own.

    Attributes:
        sigma: level of the video whose features are read; None is the level at which the model's sampling starts, so
            that sampler `one_pass` acts at it.
        video: levels of the video's own loss.
        actions: levels of the actions.
    """

    sigma: float | None = None
    video: Distribution = LogNormal(1.0, 1.6)
    actions: Distribution = LogNormal(1.0, 1.6)

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_level("sigma of a pinned noise law", self.sigma)

    def resolve(self, sigma_max: float) -> "Config":
        """See `NoiseLaw.resolve`."""
        return replace(self, sigma=sigma_max) if self.sigma is None else self

    def sample(self, batch: int, generator: torch.Generator) -> Levels:
        """See `NoiseLaw.sample`."""
        video, actions = self.video.sample(batch, generator), self.actions.sample(batch, generator)
        return Levels(video, actions, torch.full_like(video, self._read_at))

    def marginals(self) -> tuple[Distribution, Distribution]:
        """See `NoiseLaw.marginals`."""
        return self.video, self.actions

    def covers(self, asked: Levels) -> bool:
        """See `NoiseLaw.covers`: pairs whose video is at `sigma`."""
        return nearly(asked.video, self._read_at)

    def grid(self, count: int) -> Levels:
        """See `NoiseLaw.grid`."""
        video, actions = middles(self.video, count), middles(self.actions, count)
        return Levels(video, actions, torch.full_like(video, self._read_at))

    @property
    def _read_at(self) -> float:
        if self.sigma is None:
            raise UserError("noise law 'pinned' needs the level at which features are read; see `resolve`")
        return self.sigma


EXAMPLE = Config(sigma=80.0)
