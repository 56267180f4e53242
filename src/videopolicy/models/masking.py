"""Lessons of a masked model: what each clip is shown of the truth, and which of its losses count.

Li et al. 2025, Unified Video Action Model (UVA, arXiv 2503.00200): one network learns five functions, told apart by
what is masked. Its masks are those of masked autoregressive generation (Li et al. 2024, arXiv 2406.11838).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from videopolicy.diffusion.loss import Counts

# The masked share of the pixels: normal about 1 with this deviation, cut to LEAST up to 1.
DEVIATION, LEAST = 0.25, 0.7
# Sets these draws apart from others out of a clip's seed.
STREAM = 1


@dataclass(frozen=True)
class TrainingMode:
    """One function that a masked model learns.

    Attributes:
        video_loss: whether the loss of the video counts.
        action_loss: whether the loss of the actions counts.
        masked: the share of the future's pixels that is hidden; None draws one (see `masked_share`).
        gives_actions: whether the true actions are shown.
        gives_image: whether the current images are shown.
    """

    video_loss: bool
    action_loss: bool
    masked: float | None = None
    gives_actions: bool = False
    gives_image: bool = True

    def teaches(self, video: bool, actions: bool) -> bool:
        """Whether one of its losses counts, where only these do."""
        return (self.video_loss and video) or (self.action_loss and actions)


MODES = {
    "video": TrainingMode(video_loss=True, action_loss=False),
    "forward": TrainingMode(video_loss=True, action_loss=False, gives_actions=True),
    "policy": TrainingMode(video_loss=False, action_loss=True, masked=1.0),
    "inverse": TrainingMode(video_loss=False, action_loss=True, masked=0.0, gives_image=False),
    "full": TrainingMode(video_loss=True, action_loss=True),
}


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a batch is shown, on the CPU.

    Attributes:
        pixels: which pixels of the future are shown, in all frames alike.
        actions: which clips are shown their actions.
        image: which clips are shown their current images.
        counts: what counts in the loss.
    """

    pixels: Bool[Tensor, "B h w"]
    actions: Bool[Tensor, "B"]
    image: Bool[Tensor, "B"]
    counts: Counts


def masked_share(uniform: float) -> float:
    """The share of the pixels that is masked, by the quantile of its truncated normal distribution.

    Args:
        uniform: 0 to 1; the larger, the more is masked.
    """
    normal = NormalDist(1, DEVIATION)
    below = normal.cdf(LEAST)
    return min(normal.inv_cdf(below + uniform * (0.5 - below)), 1.0)


def draw_lessons(
    modes: Sequence[TrainingMode],
    counts: Counts,
    has_actions: Bool[Tensor, "B"],
    seeds: Int64[Tensor, "B"],
    size: tuple[int, int],
) -> Lessons:
    """Draws a mode and a mask for every clip by itself: each of the modes that teach it anything is as likely.

    A clip of which no mode teaches anything gets any of them, and counts nothing.

    Args:
        modes: to choose from.
        counts: what the stage counts.
        has_actions: which clips have actions to show.
        seeds: one a clip.
        size: height and width of the latents.
    """
    drawn, pixels = [], []
    video, actions = counts.video.any(1).tolist(), counts.has_actions.tolist()
    for clip, seed in enumerate(seeds.tolist()):
        rng = np.random.default_rng((seed, STREAM))
        useful = [mode for mode in modes if mode.teaches(video[clip], actions[clip])] or modes
        mode = useful[int(rng.integers(len(useful)))]
        share = masked_share(rng.random()) if mode.masked is None else mode.masked
        order = torch.from_numpy(rng.permutation(math.prod(size)))
        drawn.append(mode)
        pixels.append((order >= math.ceil(share * order.numel())).unflatten(0, size))

    def each(name: str) -> Bool[Tensor, "B"]:
        return torch.tensor([getattr(mode, name) for mode in drawn])

    counted = Counts(counts.video & each("video_loss")[:, None], counts.actions & each("action_loss")[:, None])
    return Lessons(torch.stack(pixels), each("gives_actions") & has_actions, each("gives_image"), counted)
