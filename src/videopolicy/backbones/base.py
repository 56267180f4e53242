"""The contract of a backbone: noisy latents in, denoised latents and features out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Condition:
    """What a video is denoised given, for every flat frame.

    Attributes:
        latents: conditioning latents of the current image of each frame's own view, (B, F, C, h, w).
        text: tokens of the instruction, (B, F, L, W).
    """

    latents: Float[Tensor, "B F C h w"]
    text: Float[Tensor, "B F L W"]

    def to(self, dtype: torch.dtype) -> "Condition":
        """The same in another precision."""
        return Condition(self.latents.to(dtype), self.text.to(dtype))

    def unconditional(self) -> "Condition":
        """The same with nothing to go by: zeros, what dropout shows in training."""
        return Condition(torch.zeros_like(self.latents), torch.zeros_like(self.text))

    def drop(self, latents: Bool[Tensor, "B F"], text: Bool[Tensor, "B F"]) -> "Condition":
        """Zeroes the latents and the text of the frames marked True."""
        return Condition(
            self.latents.masked_fill(latents[:, :, None, None, None], 0),
            self.text.masked_fill(text[:, :, None, None], 0),
        )


@dataclass(frozen=True)
class Features:
    """What one pass of a backbone gives.

    Attributes:
        video: the network's raw output, (B, F, C, h, w); preconditioning makes denoised latents of it.
        taps: features handed to the adapter, one (B, F, C_i, h_i, w_i) each, in the order of `Backbone.tap_channels`.
    """

    video: Float[Tensor, "B F C h w"]
    taps: tuple[Float[Tensor, "B F _ _ _"], ...]

    def detach(self) -> "Features":
        """The same values, with no gradient into the backbone."""
        return Features(self.video, tuple(tap.detach() for tap in self.taps))


class Backbone(nn.Module, ABC):
    """A video denoiser whose inner features can be read.

    Attributes:
        imagines: whether it draws video; otherwise its features are of the current images alone, and `Features.video`
            is zeros.
        tap_channels: channels C_i of each tap.
        time_width: width E of the noise level's embedding.
    """

    imagines: ClassVar[bool] = True
    tap_channels: tuple[int, ...]
    time_width: int

    @abstractmethod
    def forward(self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]) -> Features:
        """One pass.

        Args:
            video: noisy latents, already scaled by c_in.
            condition: what the video is denoised given.
            noise: c_noise = ln(sigma) / 4 of each sample.
        """

    @abstractmethod
    def embed(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """The embedding of c_noise that the head is given."""

    @abstractmethod
    def checkpoint_gradients(self) -> None:
        """From now on, keeps few inner values for the way back and computes the others again."""
