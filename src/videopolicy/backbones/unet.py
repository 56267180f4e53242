"""The spatio-temporal U-Net of Stable Video Diffusion (Blattmann et al. 2023), on diffusers' modules."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.base import Backbone, Condition, Features
from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError, unknown

GROUPS = 32
# Modules whose width is that of their level.
TAP = re.compile(r"(mid_block|(down|up)_blocks\.\d+)(\.(resnets|attentions|downsamplers|upsamplers)\.\d+)?")
# What the taps of the pass that is under way in this thread gave; None outside of a pass, as when activations are
# computed again for the gradient.
_outputs: ContextVar[dict[str, Tensor] | None] = ContextVar("outputs", default=None)


@dataclass
class Deep:
    """What the blocks below the finest level gave, for the passes that do not run them.

    Attributes:
        every: passes, of which the first runs them.
        passes: so far.
        hidden: what the last block on the way up was given; None in a pass that runs them.
        taps: what the taps gave, in this pass or, where it runs no deep blocks, in an earlier one.
    """

    every: int
    passes: int = 0
    hidden: Tensor | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)

    def begin(self) -> None:
        """Begins a pass."""
        if self.passes % self.every == 0:
            self.hidden = None
        self.passes += 1


_deep: ContextVar[Deep | None] = ContextVar("deep", default=None)


@dataclass(frozen=True)
class Config:
    """Shape of the U-Net.

    Attributes:
        channels: width of each level, finest first; multiples of 32 (groups of the norms) and of `head_channels`.
        layers: residual blocks a level.
        head_channels: channels of an attention head.
        attention: which levels have attention, finest first; the middle block always has.
        taps: module paths whose outputs are handed to the adapter.
        ids: constants that the U-Net was trained with: frames a second, motion bucket, conditioning augmentation.
        id_width: channels of each id's sinusoidal embedding.
    """

    generates_video: ClassVar[bool] = True

    channels: tuple[int, ...] = (32, 64)
    layers: int = limited(1, 1, 64)
    head_channels: int = 16
    attention: tuple[bool, ...] = (False, True)
    taps: tuple[str, ...] = ("mid_block", "up_blocks.0", "up_blocks.1")
    ids: tuple[float, ...] = limited((6.0, 100.0, 0.02), 0, 10**6)
    id_width: int = limited(32, 2, 2**16)

    def __post_init__(self) -> None:
        check_limits(self, "backbone")
        if len(self.attention) != len(self.channels):
            raise UserError(f"attention is given for {len(self.attention)} levels, channels for {len(self.channels)}")
        for width in self.channels:
            if width < 1 or width % GROUPS:
                raise UserError(f"channels of a U-Net are multiples of {GROUPS}, not {width}")
            if self.head_channels < 1 or width % self.head_channels:
                raise UserError(f"head_channels of {self.head_channels} do not divide a level of {width} channels")

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "UNet":
        """A U-Net with fresh weights for latents of C channels, tokens of width W, conditioning latents of Q channels.

        Q is C unless it is given.
        """
        return UNet(self, latent_channels, text_width, condition_channels)


class UNet(Backbone):
    """Denoises flat frames jointly in space and time; conditioning latents are concatenated on channels."""

    repeated_blocks = ("SpatioTemporalResBlock", "TransformerSpatioTemporalModel")
    # Every attention's queries, keys, values and output, over space, over time and to the text.
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")
    holds_deep = True

    def __init__(
        self, config: Config, latent_channels: int, text_width: int, condition_channels: int | None = None
    ) -> None:
        super().__init__()
        self.net = PerFrameUNet(
            in_channels=latent_channels + (condition_channels or latent_channels),
            out_channels=latent_channels,
            block_out_channels=config.channels,
            down_block_types=tuple(f"{'CrossAttn' * attends}DownBlockSpatioTemporal" for attends in config.attention),
            up_block_types=tuple(f"{'CrossAttn' * attends}UpBlockSpatioTemporal" for attends in config.attention[::-1]),
            layers_per_block=config.layers,
            num_attention_heads=tuple(c // config.head_channels for c in config.channels),
            cross_attention_dim=text_width,
            addition_time_embed_dim=config.id_width,
            projection_class_embeddings_input_dim=config.id_width * len(config.ids),
        )
        known = [name for name, _ in self.net.named_modules() if TAP.fullmatch(name)]
        for name in config.taps:
            if name not in known:
                raise unknown("tap", name, known)
            self.net.get_submodule(name).register_forward_hook(_keep(name))
        self.taps = config.taps
        self._needed = max((int(name.split(".")[1]) + 1 for name in config.taps if name.startswith("up_")), default=0)
        # No state holds them: they must have values even in a network that is built on the meta device, to be loaded.
        self.register_buffer("ids", torch.tensor(config.ids, device="cpu"), persistent=False)
        self.time_width = 4 * config.channels[0]
        self.tap_channels = tuple(_channels_of(name, config.channels) for name in config.taps)

    def forward(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.forward`."""
        deep = _deep.get()
        if deep is not None:
            deep.begin()
        return self._pass(video, condition, noise, len(self.net.up_blocks), deep)

    def read(self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition) -> Features:
        """See `Backbone.read`: of the blocks on the way up, it runs those that a tap needs."""
        return self._pass(*self.inputs(video, sigma, condition), self._needed)[1]

    def _pass(
        self,
        video: Float[Tensor, "B F C h w"],
        condition: Condition,
        noise: Float[Tensor, "B"],
        ups: int,
        deep: Deep | None = None,
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        outputs = deep.taps if deep else {}
        before = _outputs.set(outputs)
        try:
            noisy = torch.cat((video, condition.latents), 2)
            out = self.net(noisy, noise, condition.text, condition.without_text, self.ids.to(noisy.device), ups, deep)
        finally:
            _outputs.reset(before)
        frames = video.shape[:2]
        return out, Features(tuple(outputs[name].unflatten(0, frames) for name in self.taps))

    def reusing(self, every: int) -> AbstractContextManager[None]:
        """See `Backbone.reusing`: all blocks but the first and the last are deep."""
        return _reusing(every)

    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """See `Backbone.embed_noise`."""
        return self.net.embed(noise)

    def enable_gradient_checkpointing(self) -> None:
        """See `Backbone.enable_gradient_checkpointing`."""
        self.net.enable_gradient_checkpointing()


class PerFrameUNet(UNetSpatioTemporalConditionModel):
    """diffusers' U-Net, in which single frames of a clip can go without the clip's text."""

    def forward(
        self,
        sample: Float[Tensor, "B F C h w"],
        noise: Float[Tensor, "B"],
        text: Float[Tensor, "B L W"],
        without_text: Bool[Tensor, "B F"] | None,
        ids: Float[Tensor, "I"],
        ups: int,
        deep: Deep | None,
    ) -> Float[Tensor, "B F C2 h w"]:
        """One pass; what it returns means nothing if it stops before the last block.

        Args:
            sample: noisy latents with the conditioning latents behind them on channels.
            noise: c_noise of each clip.
            text: tokens of each clip.
            without_text: frames that attend to zeros instead; attention over time does if frame 0 does.
            ids: constants whose embedding is added to that of the noise level.
            ups: blocks on the way up that run.
            deep: gives what the blocks below the finest level would give, or keeps that; None to do neither.
        """
        batch, frames = sample.shape[:2]
        time = self.embed(noise)
        added = self.add_embedding(self.add_time_proj(ids).flatten()[None].to(sample.dtype))
        embedding = (time + added).repeat_interleave(frames, 0)
        common = {"temb": embedding, "image_only_indicator": sample.new_zeros(batch, frames)}
        # Copied for every frame: diffusers' blocks take tokens a frame, of which those over time make some a pixel.
        shown = text[:, None].expand(-1, frames, -1, -1)
        if without_text is not None:
            shown = shown.masked_fill(without_text[:, :, None, None], 0)
        attending = {**common, "encoder_hidden_states": shown.flatten(0, 1)}

        hidden = self.conv_in(sample.flatten(0, 1))
        skips = [hidden]
        held, last = deep.hidden if deep else None, self.up_blocks[-1]
        for block in self.down_blocks if held is None else self.down_blocks[:1]:
            hidden, outputs = block(hidden_states=hidden, **(attending if _attends(block) else common))
            skips.extend(outputs)
        if held is None:
            hidden = self.mid_block(hidden_states=hidden, **attending)
        else:
            hidden, skips = held, skips[: len(cast(nn.ModuleList, last.resnets))]
        for block in self.up_blocks[:ups] if held is None else (last,):
            if deep and block is last:
                deep.hidden = hidden
            taken = len(cast(nn.ModuleList, block.resnets))
            skips, block_skips = skips[:-taken], tuple(skips[-taken:])
            hidden = block(
                hidden_states=hidden,
                res_hidden_states_tuple=block_skips,
                # An odd size is halved rounding up: the way back up must be told the size.
                upsample_size=skips[-1].shape[-2:] if skips else None,
                **(attending if _attends(block) else common),
            )
        if ups == len(self.up_blocks):
            hidden = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return hidden.unflatten(0, (batch, frames))

    def embed(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """The embedding of the noise level, without the ids' share."""
        # Not `self.dtype`, for which diffusers walks through all modules.
        return self.time_embedding(self.time_proj(noise).to(self.conv_in.weight.dtype))


@contextmanager
def _reusing(every: int) -> Iterator[None]:
    before = _deep.set(Deep(every) if every > 1 else None)
    try:
        yield
    finally:
        _deep.reset(before)


def _keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs = _outputs.get()
        if outputs is None:
            return
        # The blocks on the way down give their skip connections along.
        outputs[name] = output[0] if isinstance(output, tuple) else output

    return hook


def _attends(block: nn.Module) -> bool:
    return getattr(block, "has_cross_attention", False)


def _channels_of(name: str, channels: tuple[int, ...]) -> int:
    """Channels of a module's output: a level has one width, whichever of its modules is tapped."""
    if name.startswith("mid_block"):
        return channels[-1]
    side, level = name.split(".")[:2]
    return (channels if side == "down_blocks" else channels[::-1])[int(level)]
