"""The denoising loss (Karras et al. 2022, eq. 2 and 8), by frame and by action step."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from videopolicy.diffusion.edm import weight
from videopolicy.diffusion.joint import Joint


@dataclass(frozen=True, eq=False)
class Losses:
    """Weighted squared errors, each the mean over its own channels and pixels.

    Attributes:
        video: one value a flat frame.
        actions: one value an action step; 0 for a sample without actions.
        has_actions: which samples count in the means of actions.
        sigma: noise level of each sample.
    """

    video: Float[Tensor, "B F"]
    actions: Float[Tensor, "B A"]
    has_actions: Bool[Tensor, "B"]
    sigma: Float[Tensor, "B"]

    @property
    def mean_video(self) -> Float[Tensor, ""]:
        """The mean over all frames."""
        return self.video.mean()

    @property
    def mean_actions(self) -> Float[Tensor, ""]:
        """The mean over the steps of samples that have actions; 0 if none has."""
        return self.actions.sum() / self._counted.clamp(min=1)

    @property
    def mean(self) -> Float[Tensor, ""]:
        """The mean over all frames and counted steps together: each frame weighs as much as each step."""
        return (self.video.sum() + self.actions.sum()) / (self.video.numel() + self._counted)

    @property
    def _counted(self) -> Tensor:
        return self.has_actions.sum() * self.actions.shape[1]


def denoising_loss(
    denoised: Joint, clean: Joint, sigma: Float[Tensor, "B"], has_actions: Bool[Tensor, "B"] | None = None
) -> Losses:
    """(sigma^2 + 1) / sigma^2 * |denoised - clean|^2.

    Args:
        denoised: the denoiser's answer at sigma.
        clean: the truth; its actions may hold anything, even NaN, where `has_actions` is False.
        sigma: noise level of each sample, shared by its frames and actions.
        has_actions: which samples carry actions; None if all do.
    """
    if has_actions is None:
        has_actions = sigma.new_ones(sigma.shape).bool()
    error = denoised - clean
    # Masked before squaring: a NaN squared and then masked would still send NaN gradients back.
    error = Joint(error.video, error.actions.masked_fill(~has_actions[:, None, None], 0))
    squared = error * error * weight(sigma)
    return Losses(squared.video.mean(dim=(2, 3, 4)), squared.actions.mean(dim=2), has_actions, sigma)
