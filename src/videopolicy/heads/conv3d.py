"""The paper's head: a 1-D U-Net over the actions behind a 3-D CNN over the features (Liang et al. 2025)."""

from dataclasses import dataclass, field

from videopolicy.heads import unet1d
from videopolicy.heads.adapter3d import Adapter3dConfig, Stage


@dataclass(frozen=True)
class Config(unet1d.Config):
    """Shape of the head; see `unet1d.Config` for the U-Net's part.

    Attributes:
        adapter: the net that makes one vector of the features.
    """

    activation: str = "silu"
    adapter: Adapter3dConfig = field(default_factory=Adapter3dConfig)


# As the paper's authors trained it: five taps of 320, 640, 1280, 1280 and 1280 channels, of pictures of 256 pixels.
PAPER = Config(
    channels=(256, 512, 1024),
    time_width=256,
    adapter=Adapter3dConfig(
        levels=(
            Stage(320, 10, stride=2),
            Stage(640, 10, stride=2),
            Stage(1280, 10, stride=2),
            Stage(1280, 10),
            Stage(1280, 10),
        ),
        joins=(Stage(320, 10), Stage(640, 10), Stage(640, 10), Stage(640, 10)),
        view=(Stage(864, 8), Stage(576, 6)),
        joint=(
            Stage(1280, 10),
            Stage(960, 8),
            Stage(720, 6),
            Stage(540, 5),
            Stage(420, 5),
            *2 * (Stage(420, 7, squeeze=2),),
            *3 * (Stage(420, 7, blocks=4, squeeze=2, pace=2),),
        ),
        groups=14,
        side=4,
    ),
)
