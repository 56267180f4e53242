"""Features of several blocks and frames -> one vector, by a small convolutional net shared over frames and views."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError

# Of every norm of the head.
GROUPS = 8


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of the adapter.

    Attributes:
        size: pixels that every tap is resized to.
        tap_channels: width of each tap's 1x1 convolution.
        channels: width after joining the taps, then of each convolution that halves the size; multiples of 8.
        width: length G of the vector.
    """

    size: int = limited(8, 1, 1024)
    tap_channels: int = limited(64, 1, 2**16)
    channels: tuple[int, ...] = (128, 128, 32)
    width: int = limited(512, 1, 2**20)

    def __post_init__(self) -> None:
        check_limits(self, "adapter")
        check_channels("an adapter", self.channels)

    def build(self, taps: tuple[int, ...], time_width: int, views: int, frames: int) -> "Adapter":
        """An adapter for taps of these widths, V views and T frames of each."""
        return Adapter(self, taps, views * frames)


class Adapter(nn.Module):
    """One vector from taps of all frames; each frame is seen by the same weights, the last layer sees them in order.

    Attributes:
        width: length G of the vector.
    """

    def __init__(self, config: AdapterConfig, taps: tuple[int, ...], frames: int) -> None:
        super().__init__()
        self.size = config.size
        self.width = config.width
        self.projections = nn.ModuleList(nn.Conv2d(channels, config.tap_channels, 1) for channels in taps)
        widths = (config.tap_channels * len(taps), *config.channels)
        self.convolutions = nn.Sequential()
        for index, (before, after) in enumerate(pairwise(widths)):
            self.convolutions.append(nn.Conv2d(before, after, 3, stride=1 if index == 0 else 2, padding=1))
            self.convolutions.append(nn.GroupNorm(GROUPS, after))
            self.convolutions.append(nn.SiLU())
        side = -(-config.size // 2 ** (len(config.channels) - 1))
        self.out = nn.Sequential(nn.Linear(frames * config.channels[-1] * side**2, config.width), nn.SiLU())

    def forward(
        self, taps: tuple[Float[Tensor, "B V T _ _ _"], ...], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B G"]:
        """Taps of any size; they are resized to `size`. The noise level is not heeded."""
        batch = len(taps[0])
        parts = []
        for tap, projection in zip(taps, self.projections, strict=True):
            part = projection(tap.flatten(0, 2))
            if part.shape[-2:] != (self.size, self.size):
                part = F.interpolate(part, (self.size, self.size), mode="bilinear")
            parts.append(part)
        return self.out(self.convolutions(torch.cat(parts, 1)).reshape(batch, -1))


def check_channels(owner: str, channels: tuple[int, ...]) -> None:
    """Raises UserError unless there are widths, and all can be normed in groups."""
    if not channels or any(width < 1 or width % GROUPS for width in channels):
        raise UserError(f"channels of {owner} are one or more multiples of {GROUPS}, not {channels}")
