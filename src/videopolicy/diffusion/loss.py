"""The denoising loss (Karras et al. 2022, eq. 2 and 8), by frame and by action step."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from videopolicy.diffusion.edm import weight
from videopolicy.diffusion.joint import Joint, Levels


@dataclass(frozen=True, eq=False)
class Counts:
    """What counts in a loss: the mask that stands beside the noise levels.

    A clip without actions, a stage that learns nothing of the video, actions that are given: the same thing.

    Attributes:
        video: one value a flat frame.
        actions: one value an action step.
    """

    video: Bool[Tensor, "B F"]
    actions: Bool[Tensor, "B A"]

    @property
    def has_actions(self) -> Bool[Tensor, "B"]:
        """Which samples have an action step that counts."""
        return self.actions.any(1)


@dataclass(frozen=True, eq=False)
class Losses:
    """Weighted squared errors, each the mean over its own channels and pixels; 0 where nothing counts.

    Attributes:
        video: one value a flat frame.
        actions: one value an action step.
        counts: which of them count in means.
        levels: noise levels of each sample, (B,).
    """

    video: Float[Tensor, "B F"]
    actions: Float[Tensor, "B A"]
    counts: Counts
    levels: Levels

    @property
    def mean_video(self) -> Float[Tensor, ""]:
        """The mean over the frames that count; 0 if none does."""
        return self.video.sum() / self.counts.video.sum().clamp(min=1)

    @property
    def mean_actions(self) -> Float[Tensor, ""]:
        """The mean over the steps that count; 0 if none does."""
        return self.actions.sum() / self.counts.actions.sum().clamp(min=1)

    def by_clip(self) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Of the video and of the actions of each sample, the mean over what counts; 0 where nothing does."""
        video = self.video.sum(1) / self.counts.video.sum(1).clamp(min=1)
        return video, self.actions.sum(1) / self.counts.actions.sum(1).clamp(min=1)


def denoising_loss(denoised: Joint, clean: Joint, levels: Levels, counts: Counts) -> Losses:
    """(sigma^2 + 1) / sigma^2 * |denoised - clean|^2, each part at its own noise level.

    Args:
        denoised: the denoiser's answer at these levels.
        clean: the truth; it may hold anything, even NaN, where it does not count.
        levels: noise levels of each sample, (B,).
        counts: which frames and action steps count.
    """
    error = denoised - clean
    # Masked before squaring: a NaN squared and then masked would still send NaN gradients back.
    video = error.video.masked_fill(~counts.video[:, :, None, None, None], 0)
    error = Joint(video, error.actions.masked_fill(~counts.actions[:, :, None], 0))
    squared = error * error * Levels(weight(levels.video), weight(levels.actions))
    # Of a model without actions they are 0 wide, and have no mean.
    actions = squared.actions.mean(dim=2) if squared.actions.shape[2] else squared.actions.sum(dim=2)
    return Losses(squared.video.mean(dim=(2, 3, 4)), actions, counts, levels)
