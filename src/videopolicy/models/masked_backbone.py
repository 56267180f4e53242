"""A backbone that is shown the future with holes instead of a noisy one, and draws each pixel by a small network.

Li et al. 2025, Unified Video Action Model (arXiv 2503.00200): the backbone's pass depends on no noise level, so that it
runs once however many steps the networks behind it take (diffusion heads: Li et al. 2024, arXiv 2406.11838).
"""

from dataclasses import dataclass, replace

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.backbones.base import Backbone, Condition, Features, Known
from videopolicy.configs import check_limits, limited

# Sinusoids of the noise level.
FREQUENCIES = 32


@dataclass(frozen=True)
class PixelConfig:
    """Shape of the network that draws a pixel.

    Attributes:
        depth: residual blocks.
        width: of each.
    """

    depth: int = limited(3, 1, 64)
    width: int = limited(128, 1, 2**16)

    def __post_init__(self) -> None:
        check_limits(self, "pixels")


@dataclass(frozen=True, eq=False)
class Seen:
    """One pass of the network inside.

    Attributes:
        out: what it gives, N channels of the latents' size.
        features: its taps.
    """

    out: Float[Tensor, "B F N h w"]
    features: Features


class MaskedBackbone(Backbone):
    """Shows a backbone the known pixels of the future, and denoises the others given its features."""

    def __init__(self, inner: Backbone, config: PixelConfig, latent_channels: int, move_channels: int) -> None:
        """Around a backbone for latents of C + E channels.

        Args:
            inner: sees the future's latents, and behind them on channels the codes of its actions.
            config: the network that draws a pixel.
            latent_channels: C.
            move_channels: E, of the codes.
        """
        super().__init__()
        self.inner = inner
        self.repeated_blocks, self.lora_targets = inner.repeated_blocks, inner.lora_targets
        self.tap_channels, self.time_width = inner.tap_channels, inner.time_width
        self.move_channels = move_channels
        self.holes = Holes(latent_channels)
        self.frequencies = Timesteps(FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(FREQUENCIES, self.time_width)
        shown = latent_channels + move_channels + sum(self.tap_channels)
        self.pixels = PixelHead(config, latent_channels, shown, self.time_width)

    def arrange(self, views: int, pad: int, side: int) -> None:
        """See `Backbone.arrange`."""
        self.inner.arrange(views, pad, side)

    def unguided(self, condition: Condition) -> Condition:
        """See `Backbone.unguided`."""
        return self.inner.unguided(condition)

    def encode_known(self, condition: Condition) -> Seen:
        """The pass of the network inside; it heeds nothing that is noisy."""
        return Seen(*self.inner.denoise(*self._shown(condition)))

    def answer(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition, seen: Seen
    ) -> Float[Tensor, "B F C h w"]:
        """The best guess of the clean video, given the pass of `encode_known`; known pixels are as they are known."""
        noisy, _, noise = self.inputs(video, sigma, condition)
        clean = self.outputs(self.pixels(noisy, self.embed_noise(noise), seen), video, sigma, condition)
        known = condition.known
        return clean if known is None else torch.where(known.pixels[:, None, None], known.video, clean)

    def denoise(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.denoise`."""
        seen = self.encode_known(condition)
        return self.answer(video, sigma, condition, seen), seen.features

    def read(self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition) -> Features:
        """See `Backbone.read`; neither the video nor its noise level is heeded."""
        return self.inner.read(*self._shown(condition))

    def forward(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.forward`."""
        seen = self.encode_known(condition)
        return self.pixels(video, self.embed_noise(noise), seen), seen.features

    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """See `Backbone.embed_noise`: that of the network that draws pixels, as the one inside knows no levels."""
        weight = next(self.time.parameters())
        return self.time(self.frequencies(noise).to(weight.dtype))

    def enable_gradient_checkpointing(self) -> None:
        """See `Backbone.enable_gradient_checkpointing`."""
        self.inner.enable_gradient_checkpointing()

    def _shown(self, condition: Condition) -> tuple[Float[Tensor, "B F C2 h w"], Float[Tensor, "B"], Condition]:
        """The future with holes, always at one noise level, and what it is completed given."""
        latents, known = condition.latents, condition.known
        blank = latents.new_zeros(*latents.shape[:2], self.move_channels, *latents.shape[3:])
        moves = blank if known is None else known.moves.to(blank).expand_as(blank)
        video = torch.cat((self.holes(latents, known), moves), 2)
        given = replace(condition, latents=torch.cat((latents, blank), 2), origin=None, known=None)
        return video, latents.new_ones(len(latents)), given


class Holes(nn.Module):
    """Puts a learned vector wherever the future is not known."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hole = nn.Parameter(torch.zeros(channels, 1, 1))
        nn.init.normal_(self.hole, std=0.02)

    def forward(self, like: Float[Tensor, "B F Q h w"], known: Known | None) -> Float[Tensor, "B F C h w"]:
        """The known pixels among holes, in as many frames of this size; of nothing known, holes."""
        holes = self.hole.to(like).expand(*like.shape[:2], -1, *like.shape[3:])
        return holes if known is None else torch.where(known.pixels[:, None, None], known.video.to(like), holes)


class PixelHead(nn.Module):
    """A residual network over single pixels, modulated by what is seen there and by the noise level."""

    def __init__(self, config: PixelConfig, channels: int, shown: int, time_width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels, config.width)
        self.seen = nn.Linear(shown, config.width)
        self.time = nn.Linear(time_width, config.width)
        self.blocks = nn.ModuleList(PixelBlock(config.width) for _ in range(config.depth))
        self.out = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, channels))

    def forward(
        self, noisy: Float[Tensor, "B F C h w"], time: Float[Tensor, "B E"], seen: Seen
    ) -> Float[Tensor, "B F C h w"]:
        """Raw output for noisy latents that are already scaled; taps are resized to them."""
        size = noisy.shape[-2:]
        taps = [
            F.interpolate(tap.flatten(0, 1), size, mode="bilinear").unflatten(0, tap.shape[:2])
            for tap in seen.features.taps
        ]
        shown = torch.cat([part.to(time.dtype) for part in (seen.out, *taps)], 2).movedim(2, -1)
        condition = F.silu(self.seen(shown) + self.time(time)[:, None, None, None])
        x = self.enter(noisy.movedim(2, -1))
        for block in self.blocks:
            x = block(x, condition)
        return self.out(x).movedim(-1, 2)


class PixelBlock(nn.Module):
    """Norm, shift and scale, two layers, gate, add (Peebles and Xie 2023, DiT: adaptive layer norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 3 * width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(
        self, x: Float[Tensor, "B F h w d"], condition: Float[Tensor, "B F h w d"]
    ) -> Float[Tensor, "B F h w d"]:
        """The same width."""
        scale, shift, gate = self.modulation(condition).chunk(3, -1)
        return x + gate * self.layers(self.norm(x) * (1 + scale) + shift)
