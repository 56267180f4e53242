"""What encoders of the current images share: there is no video, and an instruction says what to look for."""

from abc import abstractmethod

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videopolicy.backbones.base import Backbone, Condition, Features
from videopolicy.diffusion.edm import Scaling


class ImageEncoder(Backbone):
    """One tap of each frame's current image, modulated by the instruction; the noisy video is not used.

    A subclass ends its `__init__` with `embed_levels`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._recomputes = False

    def embed_levels(self, width: int) -> None:
        """Makes the embedding of noise levels, of so many sinusoids, for the head."""
        self.time_width = 4 * width
        self.frequencies = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(width, self.time_width)

    @abstractmethod
    def encode(self, latents: Float[Tensor, "n Q h w"], text: Float[Tensor, "n W"]) -> Float[Tensor, "n C h2 w2"]:
        """The tap of each frame.

        Args:
            latents: of its current image.
            text: the mean of the instruction's tokens; zeros where it is not shown.
        """

    def denoise(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.denoise`: there is no video to denoise, and nothing of it to be seen."""
        return self(video, condition.to(self._dtype), Scaling()(sigma).noise)

    def forward(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.forward`; the noise level is left to the head."""
        return torch.zeros_like(video), Features((self.encode_frames(condition.latents, condition),))

    def encode_frames(self, images: Float[Tensor, "B F Q h w"], condition: Condition) -> Float[Tensor, "B F C h2 w2"]:
        """The tap of each frame.

        Args:
            images: latents of the current image of each.
            condition: the instruction, and the frames that are not shown it.
        """
        frames = images.shape[:2]
        said = condition.text.mean(1)[:, None].expand(-1, frames[1], -1)
        if condition.without_text is not None:
            said = said.masked_fill(condition.without_text[:, :, None], 0)
        return self.encode(images.flatten(0, 1), said.flatten(0, 1)).unflatten(0, frames)

    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """See `Backbone.embed_noise`."""
        return self.time(self.frequencies(noise).to(self._dtype))

    def enable_gradient_checkpointing(self) -> None:
        """See `Backbone.enable_gradient_checkpointing`."""
        self._recomputes = True

    def run(self, level: nn.Module, *inputs: Tensor) -> Tensor:
        """One level, recomputed in the backward pass if that is wanted."""
        if self._recomputes and torch.is_grad_enabled():
            return checkpoint(level, *inputs, use_reentrant=False)
        return level(*inputs)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.time.parameters()).dtype
