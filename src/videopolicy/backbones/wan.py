"""Wan's video transformer (Wan et al. 2025, arXiv 2503.20314) on diffusers' modules: a flow model, all frames at once.

The current image of each view is a frame of its own before the future: clean, at time 0, while the others are noisy, as
Wan 2.2's model for text and images has it. What the network says of it is left out.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videopolicy.backbones.base import Backbone, Condition, Features
from videopolicy.backbones.frames import Arranged, Arrangement
from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.flow import FlowScaling
from videopolicy.errors import UserError

# What the network is told as time, at t = 1.
TIME_SCALE = 1000.0
# Fixed in all published models.
EPSILON, ROTARY_BASE = 1e-6, 10_000.0


@dataclass(frozen=True)
class Config:
    """Shape of the transformer.

    Attributes:
        layers: blocks.
        heads: of attention in each.
        head_channels: channels of an attention head, even.
        hidden: width of the layer inside a block's feed-forward network.
        patch: side in latents of what becomes one token.
        frequencies: sinusoids of the time, even.
        taps: blocks whose outputs are handed to the adapter, counted from 0.
        views: how several views become one video: side by side in one picture, or one after the other.
    """

    generates_video: ClassVar[bool] = True

    layers: int = limited(6, 1, 1024)
    heads: int = limited(4, 1, 1024)
    head_channels: int = limited(32, 6, 1024)
    hidden: int = limited(512, 1, 2**20)
    patch: int = limited(1, 1, 64)
    frequencies: int = limited(64, 2, 2**16)
    taps: tuple[int, ...] = (3,)
    views: Arranged = "width"

    def __post_init__(self) -> None:
        check_limits(self, "backbone")
        if self.head_channels % 2 or self.frequencies % 2:
            raise UserError(
                "head_channels and frequencies of backbone 'wan' are even numbers: they are sines and cosines"
            )
        if len(set(self.taps)) < len(self.taps) or any(not 0 <= tap < self.layers for tap in self.taps):
            raise UserError(f"taps of backbone 'wan' are different blocks, 0 to {self.layers - 1}, not {self.taps}")

    @property
    def width(self) -> int:
        """Channels of a token inside."""
        return self.heads * self.head_channels

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "Wan":
        """Fresh weights for latents of C channels, tokens of width W, conditioning latents of Q channels.

        Q is C unless it is given; of more, the first C are the current image's latents.
        """
        return Wan(self, latent_channels, text_width, condition_channels or latent_channels)


EXAMPLE = Config(layers=3, heads=2, head_channels=12, hidden=32, frequencies=16, taps=(0, 1))


class Wan(Backbone):
    """Denoises flat frames jointly in space and time, behind the current images.

    Attributes:
        net: diffusers' transformer.
        beyond: tokens of what the conditioning latents hold beyond the current image's own; None if nothing.
        empty_prompt: the first token of the empty instruction, as the text encoder of pretrained weights gives it, or
            zeros. A text whose first token is zeros, as one that is hidden, begins with it.
    """

    empty_prompt: Tensor
    scaling = FlowScaling()
    repeated_blocks = ("WanTransformerBlock",)
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")

    def __init__(self, config: Config, latent_channels: int, text_width: int, condition_channels: int) -> None:
        super().__init__()
        if condition_channels < latent_channels:
            raise UserError(
                f"backbone 'wan' continues the current image: conditioning latents of {condition_channels} channels "
                f"cannot begin with the {latent_channels} that are denoised"
            )
        self.config, self._channels, self._layout = config, latent_channels, Arrangement(config.views)
        self.net = PerFrameWan(
            patch_size=(1, config.patch, config.patch),
            num_attention_heads=config.heads,
            attention_head_dim=config.head_channels,
            in_channels=latent_channels,
            out_channels=latent_channels,
            text_dim=text_width,
            freq_dim=config.frequencies,
            ffn_dim=config.hidden,
            num_layers=config.layers,
            eps=EPSILON,
        )
        more, patch = condition_channels - latent_channels, config.patch
        self.beyond = nn.Conv2d(more, config.width, patch, patch) if more else None
        self.register_buffer("empty_prompt", torch.zeros(text_width))
        self.time_width, self.tap_channels = config.width, (config.width,) * len(config.taps)

    def arrange(self, views: int, pad: int) -> None:
        """See `Backbone.arrange`."""
        if pad:
            raise UserError(
                "backbone 'wan' is shown the current images as frames of their own; set the pad to 0"
            )
        self._layout = Arrangement(self.config.views, views)

    def unguided(self, condition: Condition) -> Condition:
        """See `Backbone.unguided`: without the text alone, as Wan is guided."""
        nothing = torch.ones(len(condition.text), 1, dtype=torch.bool, device=condition.text.device)
        return condition.drop(latents=~nothing, text=nothing)

    def forward(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.forward`."""
        out, features = self._pass(video, condition, noise, self.config.layers)
        return self._layout.split(out), features

    def read(self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition) -> Features:
        """See `Backbone.read`: no block behind the last tap runs."""
        return self._pass(*self.inputs(video, sigma, condition), max(self.config.taps, default=-1) + 1)[1]

    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """See `Backbone.embed_noise`."""
        return self.net.embed(TIME_SCALE * noise)

    def enable_gradient_checkpointing(self) -> None:
        """See `Backbone.enable_gradient_checkpointing`."""
        self.net.enable_gradient_checkpointing()

    def _pass(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"], blocks: int
    ) -> tuple[Float[Tensor, "B C T h W"], Features]:
        """What so many blocks give; the first part means nothing unless they are all."""
        height, width = video.shape[-2:]
        if height % self.config.patch or width % self.config.patch:
            raise UserError(
                f"latents of {width}x{height} do not divide into backbone 'wan' patches of {self.config.patch}; choose "
                f"a size of images that is {self.config.patch} times as many pixels as a latent has, or a multiple"
            )
        given = self._layout.first(condition.latents)
        frames = self._layout.join(given[:, :, : self._channels], video)
        times = (TIME_SCALE * noise)[:, None].repeat(1, frames.shape[2])
        clean = self._layout.clean()
        times[:, :clean] = 0
        beyond = None
        if self.beyond is not None:
            # Arranged as the current images are: a video of them alone.
            more = given[:, :, self._channels :]
            beyond = self.beyond(self._layout.join(more, more[:, :0]).transpose(1, 2).flatten(0, 1))
            beyond = beyond.unflatten(0, (len(video), clean)).transpose(1, 2)
        out, taps = self.net(frames, times, self._told(condition), beyond, blocks, self.config.taps)
        return out, Features(tuple(self._layout.split(tap) for tap in taps))

    def _told(self, condition: Condition) -> Float[Tensor, "B L W"]:
        """The text; a transformer over all frames hides it from all, or none: as it is from the first."""
        text = condition.text
        if condition.without_text is not None:
            text = text.masked_fill(condition.without_text[:, :1, None], 0)
        first, others = text.split((1, text.shape[1] - 1), 1)
        nothing = ~first.any(2, keepdim=True)
        return torch.cat((torch.where(nothing, self.empty_prompt.to(first), first), others), 1)


class PerFrameWan(WanTransformer3DModel):
    """diffusers' transformer, told the time of each frame; it hands out what its blocks give and can stop early."""

    def __init__(self, **shape: Any) -> None:
        super().__init__(**shape)
        self.rope = Positions(shape["attention_head_dim"], shape["patch_size"])

    def forward(
        self,
        frames: Float[Tensor, "B C T h W"],
        times: Float[Tensor, "B T"],
        text: Float[Tensor, "B L W2"],
        beyond: Float[Tensor, "B d K h2 w2"] | None,
        blocks: int,
        taps: tuple[int, ...],
    ) -> tuple[Float[Tensor, "B C T h W"], list[Float[Tensor, "B d T h2 w2"]]]:
        """One pass; what it gives first means nothing if it stops before the last block.

        Args:
            frames: noisy latents, behind clean ones.
            times: of each frame, 0 to 1000.
            text: tokens of each clip.
            beyond: added to the tokens of the first frames.
            blocks: how many run.
            taps: the blocks whose outputs are wanted, normed as every block norms what it reads.
        """
        rotary, hidden = self.rope(frames), self.patch_embedding(frames)
        grid = hidden.shape[2:]
        if beyond is not None:
            hidden = torch.cat((hidden[:, :, : beyond.shape[2]] + beyond, hidden[:, :, beyond.shape[2] :]), 2)
        hidden = hidden.flatten(2).transpose(1, 2).contiguous()
        time, modulation, text, _ = self.condition_embedder(
            times.flatten(), text, None, timestep_seq_len=times.shape[1]
        )
        # Frames come first in the order of tokens, and those of one have its time.
        a_frame = grid[1] * grid[2]
        modulation = modulation.unflatten(2, (6, -1)).repeat_interleave(a_frame, 1)
        outputs: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks[:blocks]):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden = checkpoint(block, hidden, text, modulation, rotary, use_reentrant=False)
            else:
                hidden = block(hidden, text, modulation, rotary)
            if index in taps:
                outputs[index] = self.norm_out(hidden).transpose(1, 2).unflatten(2, grid)
        if blocks == len(self.blocks):
            hidden = self._unpatch(hidden, time.repeat_interleave(a_frame, 1), grid)
        return hidden, [outputs[tap] for tap in taps]

    def embed(self, times: Float[Tensor, "B"]) -> Float[Tensor, "B d"]:
        """The embedding of a time, 0 to 1000, as the head is given it."""
        part = self.condition_embedder
        return part.time_embedder(part.timesteps_proj(times).to(part.time_proj.weight.dtype))

    def _unpatch(
        self, hidden: Float[Tensor, "B n d"], time: Float[Tensor, "B n d"], grid: torch.Size
    ) -> Float[Tensor, "B C T h W"]:
        shift, scale = (self.scale_shift_table[:, None] + time[:, :, None]).unbind(2)
        tokens = self.proj_out((self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden))
        patch = self.config["patch_size"]
        # B T h2 w2 1 p q C -> B C T h2 p w2 q
        parts = tokens.unflatten(2, (*patch, -1)).unflatten(1, tuple(grid)).squeeze(4)
        return parts.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)


class Positions(nn.Module):
    """Cosines and sines of each token's place in time, height and width (Su et al. 2021, arXiv 2104.09864).

    diffusers' own as buffers would be rounded with the weights, and have no values in a network that is built on the
    meta device, to be loaded.
    """

    def __init__(self, head_channels: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        side = 2 * (head_channels // 6)
        self.widths, self.patch = (head_channels - 2 * side, side, side), patch

    def forward(self, frames: Float[Tensor, "B C T h W"]) -> tuple[Float[Tensor, "1 n 1 c"], Float[Tensor, "1 n 1 c"]]:
        """For queries and keys of c channels a head."""
        grid = [size // patch for size, patch in zip(frames.shape[2:], self.patch, strict=True)]
        waves = []
        for axis, (width, size) in enumerate(zip(self.widths, grid, strict=True)):
            places = torch.arange(size, dtype=torch.float64, device=frames.device)
            rates = ROTARY_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64, device=frames.device) / width)
            angles = torch.outer(places, rates).repeat_interleave(2, 1)
            shape = [size if other == axis else 1 for other in range(3)]
            waves.append(
                [wave.float().reshape(*shape, width).expand(*grid, width) for wave in (angles.cos(), angles.sin())]
            )
        cosines, sines = (torch.cat(parts, 3).flatten(0, 2)[None, :, None] for parts in zip(*waves, strict=True))
        return cosines, sines
