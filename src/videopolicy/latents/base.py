"""Latents: the space that the video model denoises in, and the codes that are kept on disk for it.

T future frames of a view become t latents along time: T of them, or T / `temporal`.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from videopolicy.clips.windows import latent_frames
from videopolicy.errors import UserError

FULL_SCALE = 255.0


class Latents(nn.Module, ABC):
    """Pixels <-> latents.

    A frame is encoded once into its *codes*, which a cache stores; every time the frame is used, latents are drawn
    from the codes. The two differ for a variational autoencoder (codes: mean and deviation) and agree for a linear map.

    Latents over time (`temporal` above 1) are causal: they encode a window, the current image and the T frames after
    it, into one latent of the current image alone and one for each `temporal` of the others. They define `fit_window`,
    `encode_window` and `decode_window`; for all others these follow from `fit`, `encode` and `decode`.

    Attributes:
        channels: C, of the latents.
        code_channels: K, of the codes.
        downsampling: pixels per latent along each side.
        temporal: frames per latent along time, after the first frame, which has a latent of its own.
        pretrained: whether it requires pretrained weights; then `fit` has nothing to do.
    """

    channels: int
    code_channels: int
    downsampling: int
    temporal: int = 1
    pretrained: ClassVar[bool] = False

    @property
    def condition_channels(self) -> int:
        """Q, of the latents that the video model is conditioned on; C unless they hold more of an image."""
        return self.channels

    def fit(self, frames: UInt8[np.ndarray, "n H W 3"]) -> None:
        """Adapts the latents to a data set before anything is trained; pretrained ones have nothing to do."""

    def fit_window(self, frames: UInt8[np.ndarray, "n 1+T H W 3"]) -> None:
        """`fit`, on windows."""
        self.fit(frames.reshape(-1, *frames.shape[2:]))

    @abstractmethod
    def encode(self, frames: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n K h w"]:
        """Codes of RGB frames (0 to 255), each on its own; the same frames always give the same codes.

        Raises:
            UserError: H or W is no multiple of `downsampling`.
        """

    def encode_window(self, frames: UInt8[Tensor, "n 1+T H W 3"]) -> Float[Tensor, "n 1+t K h w"]:
        """Codes of windows: first of the current image alone, as `encode` gives them, then of the future.

        Raises:
            UserError: H or W is no multiple of `downsampling`, or T none of `temporal`.
        """
        return self.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    @abstractmethod
    def sample(self, codes: Float[Tensor, "n K h w"], generator: torch.Generator | None) -> Float[Tensor, "n C h w"]:
        """Latents to denoise, of about unit scale."""

    @abstractmethod
    def condition(self, codes: Float[Tensor, "n K h w"]) -> Float[Tensor, "n Q h w"]:
        """Latents that the video model is conditioned on."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "n C h w"]) -> UInt8[Tensor, "n H W 3"]:
        """RGB frames (0 to 255) of latents as `sample` gives them; over time, each latent is one of a current image."""

    def decode_window(self, latents: Float[Tensor, "n 1+t C h w"]) -> UInt8[Tensor, "n 1+T H W 3"]:
        """RGB frames (0 to 255) of the latents of windows; a window does not change those beside it."""
        return torch.stack([self.decode(window) for window in latents])

    def check_window(self, frames: UInt8[Tensor, "n 1+T H W 3"]) -> None:
        """Raises UserError if H or W is no multiple of `downsampling`, or T none of `temporal`."""
        self.check_size(frames[:, 0])
        latent_frames(frames.shape[1] - 1, self.temporal)

    def check_size(self, frames: UInt8[Tensor, "n H W 3"]) -> None:
        """Raises UserError if H or W is no multiple of `downsampling`."""
        height, width = frames.shape[1:3]
        if height % self.downsampling or width % self.downsampling:
            raise UserError(
                f"frames of {width}x{height} pixels do not divide into patches of {self.downsampling}; "
                f"use a size that is a multiple of {self.downsampling}"
            )
