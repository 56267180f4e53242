"""Features of several blocks -> one vector, by 3-D convolutions over frames and space (Liang et al. 2025)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError


@dataclass(frozen=True)
class ResidualStage:
    """A run of residual blocks of one width.

    Attributes:
        width: channels of its output.
        groups: groups of the norms inside a block, whose width is `width / squeeze`; those on its output have
            `squeeze` times as many.
        blocks: how many.
        squeeze: how many times narrower a block is inside.
        stride: what the first block divides height and width by.
        pace: what the first block divides the number of frames by.
    """

    width: int
    groups: int
    blocks: int = 2
    squeeze: int = 4
    stride: int = 1
    pace: int = 1

    def __post_init__(self) -> None:
        if min(self.width, self.groups, self.blocks, self.squeeze, self.stride, self.pace) < 1:
            raise UserError(f"every number of a stage is at least 1: {self}")
        if self.width % (self.squeeze * self.groups):
            raise UserError(
                f"a stage's width is a multiple of squeeze x groups = {self.squeeze * self.groups}, not {self.width}"
            )


@dataclass(frozen=True)
class Adapter3dConfig:
    """Shape of the adapter: a table of stages, the same for every view.

    Attributes:
        levels: one stage for each tap, finest tap first; its strides lead from the size of one tap to the next.
        joins: the stage that each tap but the first goes through before it joins the level.
        view: stages that follow the last level, still apart for every view.
        joint: stages of all views together.
        groups: groups of the last norm.
        side: height and width of the last features.
    """

    levels: tuple[ResidualStage, ...] = (
        ResidualStage(32, 4, 1, stride=2),
        ResidualStage(64, 4, 1, stride=2),
        ResidualStage(64, 4, 1),
    )
    joins: tuple[ResidualStage, ...] = (ResidualStage(32, 4, 1), ResidualStage(32, 4, 1))
    view: tuple[ResidualStage, ...] = (ResidualStage(32, 4, 1),)
    joint: tuple[ResidualStage, ...] = (
        ResidualStage(64, 4, 1),
        ResidualStage(32, 4, 1, pace=2),
        ResidualStage(32, 4, 1, pace=2),
    )
    groups: int = limited(4, 1, 2**16)
    side: int = limited(2, 1, 1024)

    def __post_init__(self) -> None:
        check_limits(self, "adapter")
        if len(self.joins) != len(self.levels) - 1:
            raise UserError(
                f"joins are one fewer than levels, since every tap but the first joins; "
                f"got {len(self.joins)} joins and {len(self.levels)} levels"
            )
        if not self.joint or self.joint[-1].width % self.groups:
            raise UserError(f"groups divide the width of the last joint stage; {self.groups} does not")

    def build(self, taps: tuple[int, ...], time_width: int, views: int, frames: int) -> "Adapter3d":
        """An adapter for taps of these widths, embeddings of width E, V views and T frames of each."""
        if len(taps) != len(self.levels):
            raise UserError(f"the adapter has levels for {len(self.levels)} taps; the backbone gives {len(taps)}")
        return Adapter3d(self, taps, time_width, views, frames)


class Adapter3d(nn.Module):
    """Every view has a net of its own, of the same shape; their features are joined by one net.

    Attributes:
        width: length G of the vector.
    """

    def __init__(
        self, config: Adapter3dConfig, taps: tuple[int, ...], time_width: int, views: int, frames: int
    ) -> None:
        super().__init__()
        self.side = config.side
        self.views = nn.ModuleList(View(config, taps, time_width) for _ in range(views))
        last = (*config.levels, *config.view)[-1].width
        self.joint = stages(config.joint, views * last, time_width)
        self.norm = nn.GroupNorm(config.groups, config.joint[-1].width)
        for stage in (*config.levels, *config.view, *config.joint):
            frames = -(-frames // stage.pace)
        self.width = config.joint[-1].width * frames * config.side**2

    def forward(
        self, taps: tuple[Float[Tensor, "B V T _ _ _"], ...], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B G"]:
        """One vector a clip: channels, then frames, then rows, then columns of the last features.

        Raises:
            UserError: taps whose sizes do not follow the strides of the levels, or do not end at `side`.
        """
        by_view = zip(*(tap.transpose(2, 3).unbind(1) for tap in taps), strict=True)
        seen = [view(given, time) for view, given in zip(self.views, by_view, strict=True)]
        x = self.norm(self.joint(torch.cat(seen, 1), time))
        if x.shape[-2:] != (self.side, self.side):
            raise UserError(f"the adapter ends at {_size(x)}, its configuration at {self.side} x {self.side}: set side")
        return x.flatten(1)


class View(nn.Module):
    """Joins the taps of one view, finest first."""

    def __init__(self, config: Adapter3dConfig, taps: tuple[int, ...], time_width: int) -> None:
        super().__init__()
        carried = (0, *(level.width for level in config.levels))
        joined = (taps[0], *(join.width for join in config.joins))
        self.joins = nn.ModuleList(
            stages([join], channels, time_width) for join, channels in zip(config.joins, taps[1:], strict=True)
        )
        self.levels = nn.ModuleList(
            stages([level], before + beside, time_width)
            for level, before, beside in zip(config.levels, carried, joined, strict=False)
        )
        self.tail = stages(config.view, carried[-1], time_width)

    def forward(
        self, taps: Sequence[Float[Tensor, "B _ T _ _"]], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B c T h w"]:
        """Features of the last level's size."""
        x = self.levels[0](taps[0], time)
        for level, join, tap in zip(self.levels[1:], self.joins, taps[1:], strict=True):
            joining = join(tap, time)
            if joining.shape[-2:] != x.shape[-2:]:
                raise UserError(
                    f"a tap of {_size(tap)} cannot join features of {_size(x)}; taps are given finest first, "
                    "and the strides of the adapter's levels lead from each one's size to the next"
                )
            x = level(torch.cat((x, joining), 1), time)
        return self.tail(x, time)


class Chain(nn.Sequential):
    """Parts one after the other, each of which is told the noise level."""

    def forward(self, x: Float[Tensor, "B c T h w"], time: Float[Tensor, "B E"]) -> Float[Tensor, "B d U y x"]:
        """What the last part makes of it."""
        for part in self:
            x = part(x, time)
        return x


class Bottleneck(nn.Module):
    """Narrow, mix in space and time, widen, add (He et al. 2016); the noise level shifts what is mixed."""

    def __init__(self, stage: ResidualStage, before: int, time_width: int, first: bool) -> None:
        super().__init__()
        inner = stage.width // stage.squeeze
        step = (stage.pace, stage.stride, stage.stride) if first else (1, 1, 1)
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time_width, inner))
        self.narrow = nn.Sequential(*conv_norm(before, inner, 1, stage.groups), nn.SiLU())
        self.mix = nn.Sequential(*conv_norm(inner, inner, 3, stage.groups, step), nn.SiLU())
        outer = stage.groups * stage.squeeze
        self.widen = nn.Sequential(*conv_norm(inner, stage.width, 1, outer))
        same = before == stage.width and step == (1, 1, 1)
        self.skip = nn.Identity() if same else nn.Sequential(*conv_norm(before, stage.width, 1, outer, step))

    def forward(self, x: Float[Tensor, "B c T h w"], time: Float[Tensor, "B E"]) -> Float[Tensor, "B d U y x"]:
        """Same size, unless the stage has a stride or a pace."""
        inner = self.narrow(x) + self.time(time)[:, :, None, None, None]
        return nn.functional.silu(self.widen(self.mix(inner)) + self.skip(x))


def stages(table: Iterable[ResidualStage], before: int, time_width: int) -> Chain:
    """The stages of a table, one after the other, behind features of `before` channels."""
    chain = Chain()
    for stage in table:
        widths = (before, *(stage.width,) * (stage.blocks - 1))
        chain.append(Chain(*(Bottleneck(stage, width, time_width, i == 0) for i, width in enumerate(widths))))
        before = stage.width
    return chain


def conv_norm(
    before: int, after: int, kernel: int, groups: int, step: tuple[int, int, int] = (1, 1, 1)
) -> tuple[nn.Conv3d, nn.GroupNorm]:
    """A convolution over frames and space, and its norm, which has the only bias."""
    conv = nn.Conv3d(before, after, kernel, stride=step, padding=kernel // 2, bias=False)
    return conv, nn.GroupNorm(groups, after)


def _size(x: Tensor) -> str:
    return f"{x.shape[-2]} x {x.shape[-1]}"
