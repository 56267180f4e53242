"""Independent noise levels, those of the video drawn from a wider range."""

from dataclasses import dataclass

from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import LogNormal


@dataclass(frozen=True)
class Config(independent.Config):
    """See `independent.Config`."""

    video: LogNormal = LogNormal(1.0, 2.0)
