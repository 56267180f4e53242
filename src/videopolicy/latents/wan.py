"""The latents of Wan 2.1 and Wan 2.2 (Wan et al. 2025, arXiv 2503.20314, section 4.1): causal autoencoders of video.

A window of 1 + 4k frames has 1 + k latents: the first shows the current image alone, each other one the 4 frames after
those of the latent before it. Cosmos-Predict2 denoises the latents of Wan 2.1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError
from videopolicy.latents.base import FULL_SCALE, Latents

# Frames that become one latent.
GROUP = 4
BLOCKS = 2
# Frames encoded or decoded at once. Images and windows stand alone, so this bounds memory and changes nothing.
AT_ONCE = 8
# Of a tile's side, by how much the next one is further; the rest of it is blended.
STRIDE = 0.75
# Mean and deviation of each channel over what the autoencoders were trained on, as diffusers' folders state them.
MEAN_2_1 = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
MEAN_2_1 += (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
DEVIATION_2_1 = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
DEVIATION_2_1 += (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)
MEAN_2_2 = (-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891)
MEAN_2_2 += (0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502)
MEAN_2_2 += (-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723)
MEAN_2_2 += (-0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667)
DEVIATION_2_2 = (0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901)
DEVIATION_2_2 += (0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659)
DEVIATION_2_2 += (0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944)
DEVIATION_2_2 += (0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744)


@dataclass(frozen=True)
class Config:
    """Shape of the autoencoder; the defaults are Wan 2.1's, 127 million parameters.

    Attributes:
        width: channels of the encoder's first level.
        decoder_width: channels of the decoder's last level.
        levels: width of each level in those of the first, finest first. Every level but the last halves the picture,
            and the last two of these halve the frames.
        patch: side in pixels of the patches that become channels before the first level.
        averages: whether levels have shortcuts that average, as Wan 2.2's have.
        mean: of each latent channel, taken off it.
        deviation: of each latent channel, divided by.
        temporal: frames per latent along time: 4, or 1 to encode each frame alone, so that latents of the frames of a
            window are finer in time, and more.
        tile: side in pixels of the tiles that larger pictures are coded in, which saves memory and costs exactness
            where they overlap; None codes pictures whole.
        grey: latents of grey frames behind an image that its codes hold as well, for a video model that is shown the
            image so: as many as a view's future has. Codes of windows are that much larger.
    """

    width: int = limited(96, 1, 2**16)
    decoder_width: int = limited(96, 1, 2**16)
    levels: tuple[int, ...] = limited((1, 2, 4, 4), 1, 64)
    patch: int = limited(1, 1, 64)
    averages: bool = False
    mean: tuple[float, ...] = MEAN_2_1
    deviation: tuple[float, ...] = limited(DEVIATION_2_1, 1e-6, 1e6)
    temporal: int = GROUP
    tile: int | None = None
    grey: int = limited(0, 0, 1024)

    def __post_init__(self) -> None:
        check_limits(self, "latents")
        if self.grey and self.temporal == 1:
            raise UserError("grey frames follow an image in latents over time; leave temporal at 4, or grey at 0")
        if self.temporal not in (1, GROUP):
            raise UserError(
                f"Wan's autoencoder takes {GROUP} frames to a latent, or each alone (1), not {self.temporal}"
            )
        if len(self.levels) < 3:
            raise UserError(f"Wan's autoencoder halves the frames twice: it needs 3 levels or more, not {self.levels}")
        if not self.mean or len(self.mean) != len(self.deviation):
            raise UserError(f"latents have {len(self.mean)} means and {len(self.deviation)} deviations; each has both")
        step = GROUP * self.downsampling
        if self.tile is not None and (self.tile < step or self.tile % step):
            raise UserError(f"tiles of these latents are a multiple of {step} pixels wide, not {self.tile}")

    @property
    def downsampling(self) -> int:
        """Pixels per latent along each side."""
        return self.patch * 2 ** (len(self.levels) - 1)

    def build(self) -> "Wan":
        """The autoencoder with fresh weights; it requires pretrained ones before use."""
        return Wan(self)


WAN_2_1 = Config()
WAN_2_2 = Config(width=160, decoder_width=256, patch=2, averages=True, mean=MEAN_2_2, deviation=DEVIATION_2_2)
EXAMPLE = Config(width=4, decoder_width=4, levels=(1, 1, 2), mean=(0.5, -0.5, 0.0, 1.0), deviation=(0.5, 1.0, 2.0, 1.0))
EXAMPLE_GREY = replace(EXAMPLE, grey=2)


class Wan(Latents):
    """Codes are mean and log-variance of each latent; the video model denoises samples of them, of unit scale.

    With grey frames, behind them stand the means of these, of the current image; of later latents zeros.

    Everything is computed in the precision of the weights, whatever autocast says, and comes back as float32. The
    module keeps what it has seen of a window while it codes it: one thread at a time.

    Attributes:
        vae: diffusers' module.
    """

    pretrained = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.channels, self.grey = len(config.mean), config.grey
        self.code_channels = (2 + self.grey) * self.channels
        self.downsampling, self.temporal = config.downsampling, config.temporal
        self.mean, self.deviation = config.mean, config.deviation
        halvings = len(config.levels) - 1
        self.vae = AutoencoderKLWan(
            base_dim=config.width,
            decoder_base_dim=config.decoder_width,
            z_dim=self.channels,
            dim_mult=list(config.levels),
            num_res_blocks=BLOCKS,
            temperal_downsample=[level >= halvings - 2 for level in range(halvings)],
            latents_mean=list(config.mean),
            latents_std=list(config.deviation),
            is_residual=config.averages,
            in_channels=3 * config.patch**2,
            out_channels=3 * config.patch**2,
            patch_size=None if config.patch == 1 else config.patch,
            scale_factor_temporal=GROUP,
            scale_factor_spatial=config.downsampling,
        )
        if config.tile is not None:
            stride = int(STRIDE * config.tile)
            self.vae.enable_tiling(config.tile, config.tile, stride, stride)
        self.requires_grad_(False).eval()

    def encode(self, frames: UInt8[Tensor, "n H W 3"]) -> Float32[Tensor, "n K h w"]:
        """Mean and log-variance, the latter clipped to -30 to 20, so that float16 holds both; on the weights' device.

        Raises:
            UserError: H or W is no multiple of `downsampling`.
        """
        self.check_size(frames)
        if self.grey:
            return self._in_parts(self._with_grey, frames, AT_ONCE // GROUP)
        return self._in_parts(self._moments, frames[:, None], AT_ONCE)[:, 0]

    def encode_window(self, frames: UInt8[Tensor, "n 1+T H W 3"]) -> Float32[Tensor, "n 1+t K h w"]:
        """See `encode`, and `Latents.encode_window`.

        Raises:
            UserError: H or W is no multiple of `downsampling`, or T none of `temporal`.
        """
        if self.temporal == 1:
            return super().encode_window(frames)
        self.check_window(frames)
        codes = self._in_parts(self._moments, frames, AT_ONCE // GROUP)
        if not self.grey:
            return codes
        whole = codes.new_zeros(*codes.shape[:2], self.code_channels, *codes.shape[3:])
        whole[:, 1:, : codes.shape[2]] = codes[:, 1:]
        whole[:, 0] = self.encode(frames[:, 0])
        return whole

    @property
    def condition_channels(self) -> int:
        """See `Latents.condition_channels`: C of the current image, and C of each grey latent."""
        return (1 + self.grey) * self.channels

    def sample(self, codes: Float[Tensor, "n K h w"], generator: torch.Generator | None) -> Float32[Tensor, "n C h w"]:
        """A draw from the posterior, less its channels' means, over their deviations; without a generator its mode."""
        posterior = DiagonalGaussianDistribution(codes[:, : 2 * self.channels].float())
        if generator is None:
            return self._scaled(posterior.mode())
        # Drawn on the generator's own device, so that the device of the codes does not matter.
        noise = torch.randn(posterior.mean.shape, generator=generator, device=generator.device)
        return self._scaled(posterior.mean + posterior.std * noise.to(posterior.mean))

    def condition(self, codes: Float[Tensor, "n K h w"]) -> Float32[Tensor, "n C h w"]:
        """The mode, in the scale of what is denoised: the current image takes the place of a latent frame."""
        greys = codes[:, 2 * self.channels :].float().unflatten(1, (self.grey, self.channels))
        return torch.cat((self.sample(codes, None), self._scaled(greys).flatten(1, 2)), 1)

    def decode(self, latents: Float[Tensor, "n C h w"]) -> UInt8[Tensor, "n H W 3"]:
        """RGB frames of images, each on its own, rounded and clipped to 0 to 255."""
        return _bytes(self._in_parts(self._pixels, latents[:, None], AT_ONCE))[:, 0]

    def decode_window(self, latents: Float[Tensor, "n 1+t C h w"]) -> UInt8[Tensor, "n 1+T H W 3"]:
        """RGB frames of windows, rounded and clipped to 0 to 255."""
        if self.temporal == 1:
            return super().decode_window(latents)
        return _bytes(self._in_parts(self._pixels, latents, AT_ONCE // GROUP))

    @torch.no_grad()
    def _in_parts(self, code: Callable[[Tensor], Tensor], values: Tensor, size: int) -> Tensor:
        """Codes so many at a time, in the precision and on the device of the weights."""
        device = self.vae.quant_conv.weight.device
        with torch.autocast(device.type, enabled=False):
            return torch.cat([code(part.to(device)) for part in values.split(size)])

    def _moments(self, frames: UInt8[Tensor, "n T H W 3"]) -> Float32[Tensor, "n t K h w"]:
        return self._moments_of(frames.permute(0, 4, 1, 2, 3).float() / (FULL_SCALE / 2) - 1)

    def _with_grey(self, frames: UInt8[Tensor, "n H W 3"]) -> Float32[Tensor, "n K h w"]:
        pixels = frames.permute(0, 3, 1, 2)[:, :, None].float() / (FULL_SCALE / 2) - 1
        # No whole number of 255 parts is the middle, so that these frames are made here.
        grey = torch.zeros_like(pixels).repeat(1, 1, self.grey * GROUP, 1, 1)
        moments = self._moments_of(torch.cat((pixels, grey), 2))
        return torch.cat((moments[:, 0], moments[:, 1:, : self.channels].flatten(1, 2)), 1)

    def _moments_of(self, pixels: Float32[Tensor, "n 3 T H W"]) -> Float32[Tensor, "n t K h w"]:
        posterior = self.vae.encode(pixels.to(self.vae.quant_conv.weight.dtype), return_dict=False)[0]
        return torch.cat((posterior.mean, posterior.logvar), 1).float().transpose(1, 2)

    def _pixels(self, latents: Float[Tensor, "n t C h w"]) -> Float32[Tensor, "n T 3 H W"]:
        values = latents.float() * self._of_channels(self.deviation, latents) + self._of_channels(self.mean, latents)
        values = values.transpose(1, 2).to(self.vae.quant_conv.weight.dtype)
        return self.vae.decode(values, return_dict=False)[0].transpose(1, 2).float()

    def _scaled(self, values: Float32[Tensor, "n C h w"]) -> Float32[Tensor, "n C h w"]:
        return (values - self._of_channels(self.mean, values)) / self._of_channels(self.deviation, values)

    def _of_channels(self, values: tuple[float, ...], like: Tensor) -> Float32[Tensor, "C 1 1"]:
        return torch.tensor(values, device=like.device)[:, None, None]


def _bytes(pixels: Float32[Tensor, "n T 3 H W"]) -> UInt8[Tensor, "n T H W 3"]:
    scaled = (pixels + 1) * (FULL_SCALE / 2)
    return scaled.round().clamp(0, FULL_SCALE).to(torch.uint8).permute(0, 1, 3, 4, 2)
