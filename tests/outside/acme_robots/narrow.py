"""Our U-Net with one wide head of attention: a network of another distribution."""

from dataclasses import dataclass

from videopolicy.backbones import unet


@dataclass(frozen=True)
class Config(unet.Config):
    """Shape of the U-Net; see `unet.Config`."""

    head_channels: int = 32

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "NarrowUNet":
        return NarrowUNet(self, latent_channels, text_width, condition_channels)


class NarrowUNet(unet.UNet):
    """See `unet.UNet`."""
