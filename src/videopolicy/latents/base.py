"""Latents: the space that the video model denoises in, and the codes that are kept on disk for it."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from videopolicy.errors import UserError

FULL_SCALE = 255.0


class Latents(nn.Module, ABC):
    """Pixels <-> latents.

    A frame is encoded once into its *codes*, which a cache stores; every time the frame is used, latents are drawn
    from the codes. The two differ for a variational autoencoder (codes: mean and deviation) and agree for a linear map.

    Attributes:
        channels: C, of the latents.
        code_channels: C', of the codes.
        downsampling: pixels per latent along each side.
        pretrained: whether fresh weights are good for nothing, and `fit` has nothing to do.
    """

    channels: int
    code_channels: int
    downsampling: int
    pretrained: ClassVar[bool] = False

    def fit(self, frames: UInt8[np.ndarray, "n H W 3"]) -> None:
        """Adapts the latents to a data set before anything is trained; pretrained ones have nothing to do."""

    @abstractmethod
    def encode(self, frames: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n K h w"]:
        """Codes of RGB frames (0 to 255), K = `code_channels`; the same frames always give the same codes.

        Raises:
            UserError: H or W is no multiple of `downsampling`.
        """

    @abstractmethod
    def sample(self, codes: Float[Tensor, "n K h w"], generator: torch.Generator | None) -> Float[Tensor, "n C h w"]:
        """Latents to denoise, of about unit scale."""

    @abstractmethod
    def condition(self, codes: Float[Tensor, "n K h w"]) -> Float[Tensor, "n C h w"]:
        """Latents that the video model is conditioned on."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "n C h w"]) -> UInt8[Tensor, "n H W 3"]:
        """RGB frames (0 to 255) of latents as `sample` gives them."""

    def check_size(self, frames: UInt8[Tensor, "n H W 3"]) -> None:
        """Raises UserError if H or W is no multiple of `downsampling`."""
        height, width = frames.shape[1:3]
        if height % self.downsampling or width % self.downsampling:
            raise UserError(
                f"frames of {width}x{height} pixels do not divide into patches of {self.downsampling}; "
                f"use a size that is a multiple of {self.downsampling}"
            )
