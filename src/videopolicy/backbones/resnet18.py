"""Diffusion Policy's visual encoder of the current images, with no video model (Chi et al. 2023, arXiv 2303.04137).

A ResNet-18 from scratch, with group norm in place of batch norm, and keypoints in place of the average over the picture
(section 3.2).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.resnet.configuration_resnet import ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetModel

from videopolicy.backbones.image_encoder import ImageEncoder
from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError

# Channels of one group of a norm, as the authors have them.
GROUP = 16
BLOCKS = 2
TIME = 32


@dataclass(frozen=True)
class Config:
    """Shape of the encoder.

    Attributes:
        channels: width of each level, finest first, multiples of 16; each level but the first is half as large. A
            ResNet-18 has 64, 128, 256 and 512.
        keypoints: what is left of a picture, each a place in it.
    """

    generates_video: ClassVar[bool] = False

    channels: tuple[int, ...] = (64, 128, 256, 512)
    keypoints: int = limited(32, 1, 2**16)

    def __post_init__(self) -> None:
        check_limits(self, "backbone")
        if not self.channels or any(width < 1 or width % GROUP for width in self.channels):
            raise UserError(f"channels of a ResNet are one or more multiples of {GROUP}, not {self.channels}")

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "ResNet18":
        """An encoder with fresh weights for tokens of width W, and conditioning latents of Q channels or else C."""
        return ResNet18(self, condition_channels or latent_channels, text_width)


class ResNet18(ImageEncoder):
    """Keypoints of each frame's current image, modulated by the instruction; the noisy video is not used.

    Latents are patches of pixels, as small as the pictures that a ResNet's first convolution leaves: one of 3x3 takes
    its place, and nothing is made smaller, nor pooled, before the levels.
    """

    repeated_blocks = ("ResNetStage",)

    def __init__(self, config: Config, condition_channels: int, text_width: int) -> None:
        super().__init__()
        first, last = config.channels[0], config.channels[-1]
        net = ResNetModel(
            ResNetConfig(
                num_channels=condition_channels,
                embedding_size=first,
                hidden_sizes=list(config.channels),
                depths=[BLOCKS] * len(config.channels),
                layer_type="basic",
            )
        )
        _group_norms(net)
        self.stem = net.embedder.embedder
        self.stem.convolution = nn.Conv2d(condition_channels, first, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.stem.convolution.weight, mode="fan_out", nonlinearity="relu")
        self.levels = net.encoder.stages
        self.modulate = nn.ModuleList(nn.Linear(text_width, 2 * width) for width in config.channels)
        self.maps = nn.Conv2d(last, config.keypoints, 1)
        self.tap_channels = (2 * config.keypoints,)
        self.embed_levels(TIME)

    def encode(self, latents: Float[Tensor, "n Q h w"], text: Float[Tensor, "n W"]) -> Float[Tensor, "n C 1 1"]:
        """See `ImageEncoder.encode`."""
        x = self.stem(latents)
        for level, modulate in zip(self.levels, self.modulate, strict=True):
            x = self.run(level, x)
            scale, shift = modulate(text)[..., None, None].chunk(2, 1)
            x = x * (1 + scale) + shift
        if min(x.shape[-2:]) < 2:
            raise UserError(
                f"a ResNet of {len(self.levels)} levels leaves one pixel of latents of {latents.shape[-1]}x"
                f"{latents.shape[-2]}, in which nothing has a place; take fewer levels or larger latents"
            )
        return spatial_softmax(self.maps(x)).flatten(1)[:, :, None, None]


def spatial_softmax(maps: Float[Tensor, "n K h w"]) -> Float[Tensor, "n K 2"]:
    """Where each map is large: the mean place under its softmax (Levine et al. 2016, arXiv 1504.00702, section 5.1).

    Returns:
        x (right) and y (down), -1 and 1 in the middle of the first and the last pixel.
    """
    height, width = maps.shape[-2:]
    share = maps.flatten(2).float().softmax(-1).unflatten(2, (height, width))
    right, down = (torch.linspace(-1, 1, size, device=maps.device) for size in (width, height))
    return torch.stack(((share.sum(2) * right).sum(2), (share.sum(3) * down).sum(2)), -1).to(maps.dtype)


def _group_norms(net: nn.Module) -> None:
    """Group norms in the place of all batch norms, in place."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(child.num_features // GROUP, child.num_features))


# Of the smallest latents, four levels would leave one pixel.
EXAMPLE = Config(channels=(16, 32), keypoints=8)
