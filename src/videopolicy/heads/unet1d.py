"""A 1-D U-Net over the action chunk with feature-wise modulation (Chi et al. 2023, Diffusion Policy)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError, unknown
from videopolicy.heads.adapter import GROUPS, AdapterConfig, check_channels
from videopolicy.heads.base import Head

ACTIVATIONS = {"mish": nn.Mish, "silu": nn.SiLU}
Activation = Callable[[], nn.Module]


@dataclass(frozen=True)
class Config:
    """Shape of the head.

    Attributes:
        channels: width of each level, finest first, multiples of 8; a chunk's length is a multiple of 2 to their
            number less one.
        kernel: taps of each convolution, an odd number.
        time_width: width that the noise level's embedding is brought to.
        activation: "mish" or "silu".
        adapter: the net that makes one vector of the features.
    """

    channels: tuple[int, ...] = (128, 256)
    kernel: int = 5
    time_width: int = limited(128, 1, 2**16)
    activation: str = "mish"
    adapter: AdapterConfig = field(default_factory=AdapterConfig)

    def __post_init__(self) -> None:
        check_limits(self, "head")
        check_channels("a 1-D U-Net", self.channels)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"the kernel of a 1-D U-Net is odd, so that it keeps a chunk's length, not {self.kernel}")
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)

    def build(self, taps: tuple[int, ...], time_width: int, views: int, frames: int, action_width: int) -> "UNet1D":
        """A head for taps of these widths, embeddings of width E, V views, T frames of each, and D action values."""
        return UNet1D(self, taps, time_width, views, frames, action_width)


class UNet1D(Head):
    """Adapter and action denoiser."""

    def __init__(
        self, config: Config, taps: tuple[int, ...], time_width: int, views: int, frames: int, action_width: int
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(config.channels) - 1)
        self.adapter = config.adapter.build(taps, time_width, views, frames)
        self.width = self.adapter.width
        widths, kernel, act = config.channels, config.kernel, ACTIVATIONS[config.activation]
        self.time = nn.Sequential(act(), nn.Linear(time_width, config.time_width))
        condition = self.adapter.width + config.time_width

        levels = list(pairwise((action_width, *widths)))
        self.down = nn.ModuleList(ResidualLevel(before, after, condition, kernel, act) for before, after in levels)
        self.shorten = nn.ModuleList(nn.Conv1d(width, width, 3, 2, 1) for width in widths[:-1])
        self.middle = ResidualLevel(widths[-1], widths[-1], condition, kernel, act)
        self.up = nn.ModuleList(
            ResidualLevel(2 * before, after, condition, kernel, act) for before, after in pairwise(widths[::-1])
        )
        self.lengthen = nn.ModuleList(nn.ConvTranspose1d(width, width, 4, 2, 1) for width in widths[-2::-1])
        self.out = nn.Sequential(ConvNorm(widths[0], widths[0], kernel, act), nn.Conv1d(widths[0], action_width, 1))

    def adapt(self, taps: tuple[Float[Tensor, "B V T _ _ _"], ...], time: Float[Tensor, "B E"]) -> Float[Tensor, "B G"]:
        """See `Head.adapt`."""
        return self.adapter(taps, time)

    def forward(
        self, actions: Float[Tensor, "B A D"], features: Float[Tensor, "B G"], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B A D"]:
        """See `Head.forward`."""
        condition = torch.cat((self.time(time), features), 1)
        x = actions.transpose(1, 2)
        skips = []
        # The coarsest level is not halved.
        for level, shorten in zip_longest(self.down, self.shorten, fillvalue=nn.Identity()):
            x = level(x, condition)
            skips.append(x)
            x = shorten(x)
        x = self.middle(x, condition)
        for level, lengthen in zip(self.up, self.lengthen, strict=True):
            x = lengthen(level(torch.cat((x, skips.pop()), 1), condition))
        return self.out(x).transpose(1, 2)


class ResidualLevel(nn.Module):
    """Two residual blocks at one length."""

    def __init__(self, before: int, after: int, condition: int, kernel: int, act: Activation) -> None:
        super().__init__()
        self.first = Residual(before, after, condition, kernel, act)
        self.second = Residual(after, after, condition, kernel, act)

    def forward(self, x: Float[Tensor, "B c A"], condition: Float[Tensor, "B G"]) -> Float[Tensor, "B d A"]:
        """Same length, `after` channels."""
        return self.second(self.first(x, condition), condition)


class ConvNorm(nn.Sequential):
    """Convolution over time, group norm, activation."""

    def __init__(self, before: int, after: int, kernel: int, act: Activation) -> None:
        super().__init__(nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(GROUPS, after), act())


class Residual(nn.Module):
    """Two convolutions; the condition scales and shifts each channel between them."""

    def __init__(self, before: int, after: int, condition: int, kernel: int, act: Activation) -> None:
        super().__init__()
        self.first = ConvNorm(before, after, kernel, act)
        self.modulation = nn.Sequential(act(), nn.Linear(condition, 2 * after))
        self.second = ConvNorm(after, after, kernel, act)
        self.skip = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "B c A"], condition: Float[Tensor, "B G"]) -> Float[Tensor, "B d A"]:
        """Same length, `after` channels."""
        scale, shift = self.modulation(condition)[:, :, None].chunk(2, 1)
        return self.second(self.first(x) * scale + shift) + self.skip(x)
