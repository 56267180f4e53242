"""The 1-D U-Net over the actions behind a Video Former over the features (Hu et al. 2024, VPP, arXiv 2412.14803)."""

from dataclasses import dataclass, field

from videopolicy.heads import unet1d
from videopolicy.heads.former import FormerConfig


@dataclass(frozen=True)
class Config(unet1d.Config):
    """Shape of the head; see `unet1d.Config` for the U-Net's part.

    Attributes:
        adapter: the net that makes one vector of the features.
    """

    adapter: FormerConfig = field(default_factory=FormerConfig)
