"""Latents without training: principal components of square patches, fitted in seconds."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError
from videopolicy.latents.base import Latents
from videopolicy.latents.components import Components


@dataclass(frozen=True)
class Config:
    """Principal components of patches.

    Attributes:
        patch: side of a patch in pixels; the latents are this much smaller than the frame.
        channels: components kept, at most 3 * patch².
        still: whether the mean is taken of every place of the picture by itself, which suits one camera that stands
            still: what never moves is then 0, and what moves is large. Of several views it is the mean of them all.
        conditioning: components of the current image that the video model is conditioned on, of which it denoises the
            first `channels`; None for these alone. With all 3 * patch² of them it is given the image whole.
        pixels: whether it is given, behind the `channels`, the values of the patch's pixels, made of all components as
            they are scaled (zero-phase whitening, by half): for a backbone that sees finer than a patch.
    """

    temporal: ClassVar[int] = 1

    patch: int = limited(8, 1, 1024)
    channels: int = limited(16, 1, 2**16)
    still: bool = False
    conditioning: int | None = limited(None, 1, 2**16)
    pixels: bool = False

    def __post_init__(self) -> None:
        check_limits(self, "latents")
        if self.pixels and self.conditioning is not None:
            raise UserError("latents.pixels and latents.conditioning are two ways to be given an image whole; give one")
        if self.conditioning is not None and self.conditioning < self.channels:
            raise UserError(
                f"latents.conditioning is {self.conditioning}; an image is conditioned on by at least the "
                f"{self.channels} components that are denoised"
            )

    def build(self) -> "PCA":
        """The latents, still to be fitted.

        Raises:
            UserError: more channels than a patch has values.
        """
        return PCA(self)


class PCA(Components, Latents):
    """Latents that are scaled projections on the principal components of patches; see `Components`."""

    def __init__(self, config: Config) -> None:
        kept = 3 * config.patch**2 if config.pixels else config.conditioning or config.channels
        super().__init__(3, config.patch, config.channels, config.still, beyond=kept - config.channels)
        self.channels, self.code_channels = config.channels, kept
        self.downsampling, self.pixels = config.patch, config.pixels

    @property
    def condition_channels(self) -> int:
        """See `Latents.condition_channels`."""
        return self.channels + self.code_channels if self.pixels else self.code_channels

    def fit(self, frames: UInt8[np.ndarray, "n H W 3"] | UInt8[Tensor, "n H W 3"]) -> None:
        """Fits the components in place, on at most about 260,000 patches of evenly spaced frames.

        Raises:
            UserError: no frames, or a size that is no multiple of the patch.
        """
        frames = torch.as_tensor(frames)
        self.check_size(frames)
        self.fit_pictures(frames.permute(0, 3, 1, 2))

    def encode(self, frames: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n K h w"]:
        """Scaled projections of every patch; on the device of the components.

        Raises:
            RuntimeError: not fitted yet.
            UserError: H or W is no multiple of the patch.
        """
        self.check_size(frames)
        return self.project(frames.permute(0, 3, 1, 2))

    def sample(self, codes: Float[Tensor, "n K h w"], generator: torch.Generator | None) -> Float[Tensor, "n C h w"]:
        """The first of the codes themselves: nothing is random."""
        return codes[:, : self.channels]

    def condition(self, codes: Float[Tensor, "n K h w"]) -> Float[Tensor, "n Q h w"]:
        """The codes themselves, or the first of them and the patch's pixels, row by row of each colour."""
        if not self.pixels:
            return codes
        # Of the mean variance that the first codes have.
        weight = self.components.to(codes) * (self.code_channels / self.channels) ** 0.5
        pixels = F.conv_transpose2d(codes, weight, stride=self.downsampling)
        return torch.cat((codes[:, : self.channels], F.pixel_unshuffle(pixels, self.downsampling)), 1)

    def decode(self, latents: Float[Tensor, "n C h w"]) -> UInt8[Tensor, "n H W 3"]:
        """Frames of these projections, rounded and clipped to 0 to 255."""
        return self.restore(latents).permute(0, 2, 3, 1)
