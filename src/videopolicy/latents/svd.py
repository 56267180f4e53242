"""The latents of Stable Video Diffusion (Blattmann et al. 2023): its autoencoder, pretrained and frozen."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from videopolicy.errors import UserError
from videopolicy.latents.base import FULL_SCALE, Latents

CHANNELS = 4
# What the video model was trained on: latents times this have about unit variance.
SCALE = 0.18215
LAYERS = 2
GROUPS = 32
# Frames encoded at once. Each stands alone, so this bounds memory and changes nothing.
ENCODED = 8


@dataclass(frozen=True)
class Config:
    """Shape of the autoencoder; the defaults are SVD's, 98 million parameters.

    Attributes:
        channels: width of each level, finest first; multiples of 32 (groups of the norms). Every level but the first
            halves the picture.
        decode_frames: most frames decoded at once. The decoder looks across the frames that it is given together, so
            a smaller number saves memory and costs smoothness; the paper decodes all 25 flat frames at once.
    """

    temporal: ClassVar[int] = 1

    channels: tuple[int, ...] = (128, 256, 512, 512)
    decode_frames: int = 25

    def __post_init__(self) -> None:
        for width in self.channels:
            if width < 1 or width % GROUPS:
                raise UserError(f"channels of SVD's autoencoder are multiples of {GROUPS}, not {width}")
        if self.decode_frames < 1:
            raise UserError(f"decode_frames must be at least 1, not {self.decode_frames}")

    def build(self) -> "SVD":
        """The autoencoder with fresh weights; it requires pretrained ones before use."""
        return SVD(self)


EXAMPLE = Config(channels=(32, 32, 32))


class SVD(Latents):
    """Codes are mean and log-variance of each latent; the video model denoises samples of them, times 0.18215.

    Everything is computed in the precision of the weights, whatever autocast says, and comes back as float32.

    Attributes:
        vae: diffusers' module.
        decode_frames: most frames decoded at once.
    """

    pretrained = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.channels, self.code_channels = CHANNELS, 2 * CHANNELS
        self.downsampling = 2 ** (len(config.channels) - 1)
        self.decode_frames = config.decode_frames
        # diffusers annotates tuples of any length as tuples of one.
        self.vae = AutoencoderKLTemporalDecoder(
            block_out_channels=config.channels,  # type: ignore[arg-type]
            down_block_types=("DownEncoderBlock2D",) * len(config.channels),  # type: ignore[arg-type]
            layers_per_block=LAYERS,
            latent_channels=CHANNELS,
        )
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "n H W 3"]) -> Float32[Tensor, "n 8 h w"]:
        """Mean and log-variance, the latter clipped to -30 to 20, so that float16 holds both; on the weights' device.

        Raises:
            UserError: H or W is no multiple of `downsampling`.
        """
        self.check_size(frames)
        weight = self.vae.quant_conv.weight
        with torch.autocast(weight.device.type, enabled=False):
            codes = [self._moments(chunk.to(weight.device)) for chunk in frames.split(ENCODED)]
        return torch.cat(codes)

    def sample(self, codes: Float[Tensor, "n 8 h w"], generator: torch.Generator | None) -> Float32[Tensor, "n 4 h w"]:
        """A draw from the posterior times 0.18215; without a generator its mode times 0.18215."""
        posterior = DiagonalGaussianDistribution(codes.float())
        if generator is None:
            return posterior.mode() * SCALE
        # Drawn on the generator's own device, so that the device of the codes does not matter.
        noise = torch.randn(posterior.mean.shape, generator=generator, device=generator.device)
        return (posterior.mean + posterior.std * noise.to(posterior.mean)) * SCALE

    def condition(self, codes: Float[Tensor, "n 8 h w"]) -> Float32[Tensor, "n 4 h w"]:
        """The mode, not scaled: so SVD was trained."""
        return DiagonalGaussianDistribution(codes.float()).mode()

    def decode(self, latents: Float[Tensor, "n 4 h w"]) -> UInt8[Tensor, "n H W 3"]:
        """RGB frames of one clip's latents, rounded and clipped to 0 to 255; see `pixels`."""
        pixels = (self.pixels(latents) + 1) * (FULL_SCALE / 2)
        return pixels.round().clamp(0, FULL_SCALE).to(torch.uint8).permute(0, 2, 3, 1)

    @torch.no_grad()
    def pixels(self, latents: Float[Tensor, "n 4 h w"]) -> Float32[Tensor, "n 3 H W"]:
        """Frames of one clip, about -1 to 1.

        The n frames are taken for one clip, in order, and decoded `decode_frames` at a time; frames that are decoded
        together influence each other. Give each clip on its own, as the video model drew it: the paper's authors
        decode the pad and the frames of all views together.
        """
        weight = self.vae.quant_conv.weight
        with torch.autocast(weight.device.type, enabled=False):
            chunks = (latents.to(weight) / SCALE).split(self.decode_frames)
            decoded = [self.vae.decode(chunk, num_frames=len(chunk), return_dict=False)[0] for chunk in chunks]
        return torch.cat(decoded).float()

    def _moments(self, frames: UInt8[Tensor, "n H W 3"]) -> Float32[Tensor, "n 8 h w"]:
        pixels = frames.permute(0, 3, 1, 2).float() / (FULL_SCALE / 2) - 1
        posterior = self.vae.encode(pixels.to(self.vae.quant_conv.weight.dtype), return_dict=False)[0]
        return torch.cat((posterior.mean, posterior.logvar), 1).float()
