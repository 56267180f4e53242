"""A plain convolutional encoder of the current images: what cloning reads actions from, with no video model at all."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.image_encoder import ImageEncoder
from videopolicy.errors import UserError

# Of every norm.
GROUPS = 8


@dataclass(frozen=True)
class Config:
    """Shape of the encoder.

    Attributes:
        channels: width of each level, finest first, multiples of 8; each level but the first is half as large.
        blocks: residual blocks a level.
    """

    generates_video: ClassVar[bool] = False

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 2

    def __post_init__(self) -> None:
        if not self.channels or any(width < 1 or width % GROUPS for width in self.channels):
            raise UserError(f"channels of an image encoder are one or more multiples of {GROUPS}, not {self.channels}")
        if self.blocks < 1:
            raise UserError(f"an image encoder has at least one block a level, not {self.blocks}")

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "Images":
        """An encoder with fresh weights for tokens of width W, and conditioning latents of Q channels or else C."""
        return Images(self, condition_channels or latent_channels, text_width)


class Images(ImageEncoder):
    """Features of each frame's current image, modulated by the instruction; the noisy video is not used."""

    repeated_blocks = ("EncoderLevel",)

    def __init__(self, config: Config, condition_channels: int, text_width: int) -> None:
        super().__init__()
        first = config.channels[0]
        self.stem = nn.Conv2d(condition_channels, first, 3, padding=1)
        self.levels = nn.ModuleList()
        for before, after in pairwise((first, *config.channels)):
            blocks = [FilmBlock(after, text_width) for _ in range(config.blocks)]
            enter = nn.Conv2d(before, after, 3, stride=2, padding=1) if len(self.levels) else nn.Identity()
            self.levels.append(EncoderLevel(enter, blocks))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, config.channels[-1]), nn.SiLU())
        self.tap_channels = (config.channels[-1],)
        self.embed_levels(first)

    def encode(self, latents: Float[Tensor, "n Q h w"], text: Float[Tensor, "n W"]) -> Float[Tensor, "n C h2 w2"]:
        """See `ImageEncoder.encode`."""
        x = self.stem(latents)
        for level in self.levels:
            x = self.run(level, x, text)
        return self.out(x)


class EncoderLevel(nn.Module):
    """Residual blocks of one width, behind what brings the level above to it."""

    def __init__(self, enter: nn.Module, blocks: list["FilmBlock"]) -> None:
        super().__init__()
        self.enter, self.blocks = enter, nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "n C h w"], text: Float[Tensor, "n W"]) -> Float[Tensor, "n C2 h2 w2"]:
        """Odd sizes are halved rounding up."""
        x = self.enter(x)
        for block in self.blocks:
            x = block(x, text)
        return x


class FilmBlock(nn.Module):
    """A residual block with feature-wise modulation by the instruction (Perez et al. 2018, FiLM)."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.modulate = nn.Linear(text_width, 2 * channels)
        self.second = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Float[Tensor, "n C h w"], text: Float[Tensor, "n W"]) -> Float[Tensor, "n C h w"]:
        """The same size and width."""
        scale, shift = self.modulate(text)[..., None, None].chunk(2, 1)
        return x + self.second(self.norm(self.first(x)) * (1 + scale) + shift)
