"""A 1-D U-Net over the action chunk with feature-wise modulation (Chi et al. 2023, Diffusion Policy)."""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.heads.adapter import AdapterConfig
from videopolicy.heads.base import Head


@dataclass(frozen=True)
class Config:
    """Shape of the head.

    Attributes:
        channels: width of each level, finest first; a chunk's length is a multiple of 2 to their number less one.
        kernel: taps of each convolution.
        time_width: width that the noise level's embedding is brought to.
        adapter: the net that makes one vector of the features.
    """

    channels: tuple[int, ...] = (128, 256)
    kernel: int = 5
    time_width: int = 128
    adapter: AdapterConfig = field(default_factory=AdapterConfig)

    def build(self, taps: tuple[int, ...], time_width: int, frames: int, action_width: int) -> "UNet1D":
        """A head for taps of these widths, embeddings of width E, this many frames (all views) and D actions."""
        return UNet1D(self, taps, time_width, frames, action_width)


class UNet1D(Head):
    """Adapter and action denoiser."""

    def __init__(
        self, config: Config, taps: tuple[int, ...], time_width: int, frames: int, action_width: int
    ) -> None:
        super().__init__()
        self.adapter = config.adapter.build(taps, frames)
        self.time = nn.Sequential(nn.Mish(), nn.Linear(time_width, config.time_width))
        widths, kernel = config.channels, config.kernel
        condition = config.adapter.width + config.time_width

        def block(before: int, after: int) -> Residual:
            return Residual(before, after, condition, kernel)

        self.down = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise((action_width, *widths))):
            halve = nn.Conv1d(after, after, 3, 2, 1) if index < len(widths) - 1 else nn.Identity()
            self.down.append(nn.ModuleList((block(before, after), block(after, after), halve)))
        self.middle = nn.ModuleList((block(widths[-1], widths[-1]), block(widths[-1], widths[-1])))
        self.up = nn.ModuleList()
        for before, after in pairwise(widths[::-1]):
            double = nn.ConvTranspose1d(after, after, 4, 2, 1)
            self.up.append(nn.ModuleList((block(2 * before, after), block(after, after), double)))
        self.out = nn.Sequential(ConvNorm(widths[0], widths[0], kernel), nn.Conv1d(widths[0], action_width, 1))

    def adapt(self, taps: tuple[Float[Tensor, "B V T c y x"], ...], time: Float[Tensor, "B E"]) -> Float[Tensor, "B G"]:
        """See `Head.adapt`."""
        return self.adapter(taps)

    def forward(
        self, actions: Float[Tensor, "B A D"], features: Float[Tensor, "B G"], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B A D"]:
        """See `Head.forward`."""
        condition = torch.cat((self.time(time), features), 1)
        x = actions.transpose(1, 2)
        skips = []
        for first, second, halve in self.down:
            x = second(first(x, condition), condition)
            skips.append(x)
            x = halve(x)
        for block in self.middle:
            x = block(x, condition)
        for first, second, double in self.up:
            x = double(second(first(torch.cat((x, skips.pop()), 1), condition), condition))
        return self.out(x).transpose(1, 2)


class ConvNorm(nn.Sequential):
    """Convolution over time, group norm, Mish."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__(nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(8, after), nn.Mish())


class Residual(nn.Module):
    """Two convolutions; the condition scales and shifts each channel between them."""

    def __init__(self, before: int, after: int, condition: int, kernel: int) -> None:
        super().__init__()
        self.first = ConvNorm(before, after, kernel)
        self.modulation = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * after))
        self.second = ConvNorm(after, after, kernel)
        self.skip = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "B c A"], condition: Float[Tensor, "B G"]) -> Float[Tensor, "B d A"]:
        """Same length, `after` channels."""
        scale, shift = self.modulation(condition)[:, :, None].chunk(2, 1)
        return self.second(self.first(x) * scale + shift) + self.skip(x)
