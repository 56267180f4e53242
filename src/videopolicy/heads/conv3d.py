"""The paper's head: a 1-D U-Net over the actions behind a 3-D CNN over the features (Liang et al. 2025)."""

from dataclasses import dataclass, field

from videopolicy.heads import unet1d
from videopolicy.heads.adapter3d import Adapter3dConfig, ResidualStage


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
            ResidualStage(320, 10, stride=2),
            ResidualStage(640, 10, stride=2),
            ResidualStage(1280, 10, stride=2),
            ResidualStage(1280, 10),
            ResidualStage(1280, 10),
        ),
        joins=(ResidualStage(320, 10), ResidualStage(640, 10), ResidualStage(640, 10), ResidualStage(640, 10)),
        view=(ResidualStage(864, 8), ResidualStage(576, 6)),
        joint=(
            ResidualStage(1280, 10),
            ResidualStage(960, 8),
            ResidualStage(720, 6),
            ResidualStage(540, 5),
            ResidualStage(420, 5),
            *2 * (ResidualStage(420, 7, squeeze=2),),
            *3 * (ResidualStage(420, 7, blocks=4, squeeze=2, pace=2),),
        ),
        groups=14,
        side=4,
    ),
)
