"""Wan's video transformer (Wan et al. 2025, arXiv 2503.20314) on diffusers' modules: a flow model, all frames at once.

The current images are clean frames at time 0, as Wan 2.2's 5B for text and images has them. The models for text alone
have the same shape but one time for all frames, and must learn what a clean one is. Or they stand on channels beside
noisy frames, as in Wan2.2-I2V-A14B. The A14B models are two networks: an expert for high noise levels, and one for low.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from videopolicy.backbones.transformer import TransformerConfig, VideoTransformer
from videopolicy.configs import limited
from videopolicy.errors import UserError

# What the network is told as time, at t = 1.
TIME_SCALE = 1000.0
# Fixed in all published models.
EPSILON, ROTARY_BASE = 1e-6, 10_000.0
# Channels that mark frames of which the image is shown: one for each frame that becomes one latent.
MARKS = 4


@dataclass(frozen=True)
class Config(TransformerConfig):
    """Shape of the transformer; see `TransformerConfig` for what all share.

    Attributes:
        hidden: width of the layer inside a block's feed-forward network.
        frequencies: sinusoids of the time, even.
        image: where the current images stand: each is a clean frame, or on channels beside noisy frames, marked.
        grey: of so many frames after an image on channels, the conditioning latents hold what the autoencoder makes of
            grey ones behind it, C channels each (`latents.wan.Config.grey`); with 0 zeros stand there.
        boundary: flow time from which on the first of two networks denoises, and below which the second; None for one
            network.
    """

    name: ClassVar[str] = "wan"

    layers: int = limited(4, 1, 1024)
    head_channels: int = limited(24, 12, 1024)
    taps: tuple[int, ...] = (2,)
    hidden: int = limited(384, 1, 2**20)
    frequencies: int = limited(64, 2, 2**16)
    image: Literal["frame", "channels"] = "frame"
    grey: int = limited(0, 0, 1024)
    boundary: float | None = limited(None, 0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frequencies % 2:
            raise UserError("frequencies of backbone 'wan' are an even number: they are sines and cosines")
        if self.grey and not self.draws_current:
            raise UserError("grey frames of backbone 'wan' are those behind an image on channels: set image='channels'")

    @property
    def draws_current(self) -> bool:
        """See `TransformerConfig.draws_current`."""
        return self.image == "channels"

    @property
    def experts(self) -> int:
        """See `TransformerConfig.experts`."""
        return 1 if self.boundary is None else 2

    def shown_channels(self, latent_channels: int) -> int:
        """See `TransformerConfig.shown_channels`."""
        return latent_channels * (1 + self.grey)

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "WanTransformer":
        """Fresh weights for latents of C channels, tokens of width W, conditioning latents of Q channels.

        Unless it is given, Q is what the network is shown: C, and C more for each of the grey frames. Of more, these
        stand first.
        """
        shown = self.shown_channels(latent_channels)
        return WanTransformer(self, latent_channels, text_width, condition_channels or shown)


# As published, for text 4096 wide: 5.00 billion parameters with Wan 2.2's latents; with Wan 2.1's 1.42, and 14.29 in
# each of the two networks of the A14B.
TI2V_5B = Config(layers=30, heads=24, head_channels=128, hidden=14336, frequencies=256, patch=2, taps=(19,))
T2V_1_3B = Config(layers=30, heads=12, head_channels=128, hidden=8960, frequencies=256, patch=2, taps=(19,))
T2V_A14B = Config(
    layers=40, heads=40, head_channels=128, hidden=13824, frequencies=256, patch=2, taps=(26,), boundary=0.875
)
I2V_A14B = replace(T2V_A14B, image="channels", grey=2, boundary=0.9)
EXAMPLE = Config(layers=3, heads=2, head_channels=12, hidden=32, frequencies=16, taps=(0, 1))
EXAMPLE_EXPERTS = replace(EXAMPLE, image="channels", boundary=0.6)


class WanTransformer(VideoTransformer):
    """See `VideoTransformer`.

    Attributes:
        second: the network for noise levels below the boundary; None if `net` denoises at all.
    """

    repeated_blocks = ("WanTransformerBlock",)
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")

    def __init__(self, config: Config, latent_channels: int, text_width: int, condition_channels: int) -> None:
        super().__init__(config, latent_channels, text_width, condition_channels)
        seen = 2 * latent_channels + MARKS if config.draws_current else latent_channels
        facts: dict[str, Any] = {
            "patch_size": (1, config.patch, config.patch),
            "num_attention_heads": config.heads,
            "attention_head_dim": config.head_channels,
            "in_channels": seen,
            "out_channels": latent_channels,
            "text_dim": text_width,
            "freq_dim": config.frequencies,
            "ffn_dim": config.hidden,
            "num_layers": config.layers,
            "eps": EPSILON,
        }
        self._image, self._boundary = config.image, config.boundary
        self.net = PerFrameWan(**facts)
        self.second = None if config.boundary is None else PerFrameWan(**facts)

    @property
    def experts(self) -> tuple["PerFrameWan", ...]:
        """See `VideoTransformer.experts`."""
        return (self.net,) if self.second is None else (self.net, self.second)

    def see(self, given: Float[Tensor, "B V Q h w"], video: Float[Tensor, "B F C h w"]) -> Float[Tensor, "B _ T h W"]:
        """See `VideoTransformer.see`; with the image on channels, noisy latents, marks, and latents of the image."""
        if self._image == "frame":
            return super().see(given, video)
        views = given.shape[1]
        noisy = self._layout.join(video[:, :views], video[:, views:])
        current, *greys = given[:, :, : self._shown].split(self._channels, 2)
        count = (video.shape[1] - views) // views
        if not greys:
            greys = [torch.zeros_like(current)] * count
        elif count > len(greys):
            raise UserError(
                f"the latents show an image with {len(greys)} grey frames behind it, the video has {count}; set grey "
                "of the model's latents and of its backbone to as many"
            )
        # Frames of a view stand together, as the noisy ones do.
        behind = torch.stack(greys[:count], 2).flatten(1, 2) if count else current[:, :0]
        image = self._layout.join(current, behind)
        marks = torch.zeros_like(image[:, :1]).repeat(1, MARKS, 1, 1, 1)
        marks[:, :, : self._layout.clean()] = 1
        return torch.cat((noisy, marks, image), 1)

    def run(
        self,
        frames: Float[Tensor, "B C T h W"],
        clean: int,
        noise: Float[Tensor, "B"],
        text: Float[Tensor, "B L W2"],
        beyond: Float[Tensor, "B d K h2 w2"] | None,
        blocks: int,
    ) -> tuple[Float[Tensor, "B C T h W"], list[Float[Tensor, "B d T h2 w2"]]]:
        """See `VideoTransformer.run`."""
        times = (TIME_SCALE * noise)[:, None].repeat(1, frames.shape[2])
        if self._image == "frame":
            times[:, :clean] = 0
        given = (frames, times, text, beyond)
        # On the meta device, levels have no values: all clips go one way, at the same cost.
        if self._boundary is None or noise.is_meta:
            return self.net(*given, blocks, self.shape.taps)
        return self._by_experts(TIME_SCALE * noise >= TIME_SCALE * self._boundary, given, blocks)

    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """See `Backbone.embed_noise`; always the first network's, so that a head sees no jump at the boundary."""
        return self.net.embed(TIME_SCALE * noise)

    def _by_experts(
        self, high: Bool[Tensor, "B"], given: tuple[Tensor | None, ...], blocks: int
    ) -> tuple[Float[Tensor, "B C T h W"], list[Float[Tensor, "B d T h2 w2"]]]:
        """Each clip by the network of its noise level.

        Args:
            high: which clips are the first network's.
            given: what a network is given, None or (B, ...) each.
            blocks: how many run.
        """
        both = (torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())) or _shared()
        mine = [which.nonzero()[:, 0] for which in (high, ~high)]
        results: list[list[Tensor]] = []
        for net, rows in zip(self.experts, mine, strict=True):
            if len(rows) == 0 and not both:
                continue
            # Weights that learn have a gradient in every step, and processes wait for each other's: a network without
            # clips sees one, of which nothing is kept.
            seen = rows if len(rows) else rows.new_zeros(1)
            out, taps = net(*(part if part is None else part[seen] for part in given), blocks, self.shape.taps)
            results.append([whole[: len(rows)] for whole in (out, *taps)])
        back = torch.cat(mine).argsort()
        out, *taps = (torch.cat(parts)[back] for parts in zip(*results, strict=True))
        return out, taps


def _shared() -> bool:
    """Whether this is one of several processes, which may hold parts of the weights each."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


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
