"""Latents over time without training: principal components of patches of an image, and of patches through time.

They have the shape of a causal video autoencoder's (Wan et al. 2025, arXiv 2503.20314, section 4.1: 1 + T frames give
1 + T / 4 latents), are linear, and are fitted in seconds.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError
from videopolicy.latents.base import Latents
from videopolicy.latents.components import Components


@dataclass(frozen=True)
class Config:
    """Principal components of patches of single frames, and of groups of them.

    Attributes:
        patch: side of a patch in pixels; the latents are this much smaller than the frame.
        channels: components kept of either kind, at most 3 * patch².
        temporal: frames of a group, which become one latent.
    """

    patch: int = limited(8, 1, 1024)
    channels: int = limited(16, 1, 2**16)
    temporal: int = 4

    def __post_init__(self) -> None:
        check_limits(self, "latents")
        if self.temporal < 2:
            raise UserError(f"PCA over time groups at least 2 frames, not {self.temporal}; for single frames take pca")

    def build(self) -> "PCAVideo":
        """The latents, still to be fitted.

        Raises:
            UserError: more channels than a patch of one frame has values.
        """
        return PCAVideo(self)


class PCAVideo(Latents):
    """The first latent of a window holds its current image alone, each other one a group of the frames after it.

    Attributes:
        image: components of the current image's patches.
        motion: components of the groups' patches, the frames of a group on top of each other.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.channels = self.code_channels = config.channels
        self.downsampling, self.temporal = config.patch, config.temporal
        self.image = Components(3, config.patch, config.channels)
        self.motion = Components(3 * config.temporal, config.patch, config.channels)

    def fit(self, frames: UInt8[np.ndarray, "n H W 3"]) -> None:
        """Raises RuntimeError: frames without their order tell nothing of time."""
        raise RuntimeError("latents over time are fitted to windows: call fit_window")

    def fit_window(self, frames: UInt8[np.ndarray, "n 1+T H W 3"] | UInt8[Tensor, "n 1+T H W 3"]) -> None:
        """Fits both kinds of components in place; see `Components.fit_pictures`.

        Raises:
            UserError: no windows, a size that is no multiple of the patch, or T none of `temporal`.
        """
        frames = torch.as_tensor(frames)
        self.check_window(frames)
        self.image.fit_pictures(_stacked(frames[:, :1], 1))
        self.motion.fit_pictures(_stacked(frames[:, 1:], self.temporal))

    def encode(self, frames: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n C h w"]:
        """Scaled projections of every patch of current images; on the device of the components.

        Raises:
            RuntimeError: not fitted yet.
            UserError: H or W is no multiple of the patch.
        """
        self.check_size(frames)
        return self.image.project(_stacked(frames[:, None], 1))

    def encode_window(self, frames: UInt8[Tensor, "n 1+T H W 3"]) -> Float[Tensor, "n 1+t C h w"]:
        """Scaled projections of every patch of the current image and of every group; on the components' device.

        Raises:
            RuntimeError: not fitted yet.
            UserError: H or W is no multiple of the patch, or T none of `temporal`.
        """
        self.check_window(frames)
        future = self.motion.project(_stacked(frames[:, 1:], self.temporal))
        return torch.cat((self.encode(frames[:, 0])[:, None], future.unflatten(0, (len(frames), -1))), 1)

    def sample(self, codes: Float[Tensor, "n C h w"], generator: torch.Generator | None) -> Float[Tensor, "n C h w"]:
        """The codes themselves: nothing is random."""
        return codes

    def condition(self, codes: Float[Tensor, "n C h w"]) -> Float[Tensor, "n C h w"]:
        """The codes themselves."""
        return codes

    def decode(self, latents: Float[Tensor, "n C h w"]) -> UInt8[Tensor, "n H W 3"]:
        """Current images of these projections, rounded and clipped to 0 to 255."""
        return self.image.restore(latents).permute(0, 2, 3, 1)

    def decode_window(self, latents: Float[Tensor, "n 1+t C h w"]) -> UInt8[Tensor, "n 1+T H W 3"]:
        """Windows of these projections, rounded and clipped to 0 to 255."""
        groups = self.motion.restore(latents[:, 1:].flatten(0, 1)).unflatten(1, (self.temporal, 3))
        future = groups.unflatten(0, (len(latents), -1)).flatten(1, 2).permute(0, 1, 3, 4, 2)
        return torch.cat((self.decode(latents[:, 0])[:, None], future), 1)


def _stacked(frames: UInt8[Tensor, "n t*m H W 3"], size: int) -> UInt8[Tensor, "n*t 3*m H W"]:
    """Groups of m = `size` frames, those of a group on top of each other."""
    return frames.unflatten(1, (-1, size)).flatten(0, 1).permute(0, 1, 4, 2, 3).flatten(1, 2)
