"""A video model and an encoder of the current images whose features it is conditioned on, and which the head reads.

The encoder sees pixels, finer than the video's latents, and learns by the loss of the video and by that of the actions.
A head that reads the present (`reads="present"`) reads these features, and acting runs no video model at all.
"""

from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from videopolicy.backbones import images, unet
from videopolicy.backbones.base import Backbone, Condition, Features
from videopolicy.errors import UserError


@dataclass(frozen=True)
class Config:
    """An encoder and a video model.

    Attributes:
        encoder: of the current images.
        fine: side in pixels of the patches that it sees.
        video: the backbone that denoises; its taps are not read.
    """

    generates_video: ClassVar[bool] = True

    encoder: images.Config = field(default_factory=images.Config)
    fine: int = 2
    video: Any = field(default_factory=lambda: unet.Config(taps=()))

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "Encoded":
        """Fresh weights for latents of C channels, tokens of width W, and conditioning latents that end with pixels.

        Raises:
            UserError: the latents hold no pixels of the current image.
        """
        return Encoded(self, latent_channels, text_width, condition_channels or latent_channels)


class Encoded(Backbone):
    """Denoises as the video model does, behind the encoder's features of each frame's current image.

    The encoder is told the instruction before any dropout, which hides it from the video model.

    Attributes:
        encoder: of the current images.
        video: the backbone that denoises.
    """

    encodes = True

    def __init__(self, config: Config, latent_channels: int, text_width: int, condition_channels: int) -> None:
        super().__init__()
        values = condition_channels - latent_channels
        self._channels, self._patch, self._fine = latent_channels, isqrt(max(values, 0) // 3), config.fine
        if values < 3 or 3 * self._patch**2 != values or self._patch % config.fine:
            raise UserError(
                "backbone 'encoded' sees the pixels of the current images: latents of pca.Config(pixels=True), with "
                f"patches that are a multiple of {config.fine} pixels wide"
            )
        self.encoder = config.encoder.build(3 * config.fine**2, text_width)
        # The head is given the video model's embedding of noise levels; the encoder heeds none.
        del self.encoder.time, self.encoder.frequencies
        (width,) = self.encoder.tap_channels
        self.video = config.video.build(latent_channels, text_width, latent_channels + width)
        self.tap_channels, self.time_width = (width,), self.video.time_width
        self.repeated_blocks = (*self.video.repeated_blocks, *images.Images.repeated_blocks)
        self.lora_targets = self.video.lora_targets

    def arrange(self, views: int, pad: int, side: int) -> None:
        """See `Backbone.arrange`."""
        self.video.arrange(views, pad, side)

    def encode_current(self, given: Condition) -> Condition:
        """See `Backbone.encode_current`: the pixels make way for their features."""
        latents, pixels = given.latents.split((self._channels, given.latents.shape[2] - self._channels), 2)
        fine = F.pixel_unshuffle(F.pixel_shuffle(pixels, self._patch), self._fine)
        seen = self.encoder.encode_frames(fine.to(self._dtype), given.to(self._dtype))
        frames, (height, width) = seen.shape[:2], latents.shape[-2:]
        features = F.adaptive_avg_pool2d(seen.flatten(0, 1), (height, width)).unflatten(0, frames)
        return replace(given, latents=torch.cat((latents, features.to(latents.dtype)), 2))

    def forward(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.forward`."""
        return self.video(video, condition, noise)[0], self._features(condition)

    def read(self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition) -> Features:
        """See `Backbone.read`: what the encoder has seen already."""
        return self._features(condition.to(self._dtype))

    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """See `Backbone.embed_noise`."""
        return self.video.embed_noise(noise)

    def enable_gradient_checkpointing(self) -> None:
        """See `Backbone.enable_gradient_checkpointing`."""
        self.encoder.enable_gradient_checkpointing()
        self.video.enable_gradient_checkpointing()

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.encoder.parameters()).dtype

    def _features(self, condition: Condition) -> Features:
        return Features((condition.latents[:, :, self._channels :],))
