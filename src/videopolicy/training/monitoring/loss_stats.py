"""Losses and gradient norms from one line of the log to the next, by noise level."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from videopolicy.diffusion.loss import Losses
from videopolicy.diffusion.noise.base import Marginal, NoiseLaw

BANDS = ("low", "middle", "high")
# Columns of what is kept of a clip: for each part its loss, its noise level, and whether it counts.
COLUMNS = {"video": (0, 1, 2), "action": (3, 4, 5)}


def band(sigma: Float[np.ndarray, "n"], marginal: Marginal) -> Int[np.ndarray, "n"]:
    """The band of each noise level: 0 for the lowest third of the levels that are trained on, to 2."""
    return np.digitize(sigma, [marginal.quantile(1 / 3), marginal.quantile(2 / 3)])


class LossStats:
    """Collects what steps come to, and never waits for the device before it is read."""

    def __init__(self, parts: Sequence[str], law: NoiseLaw) -> None:
        """An empty one.

        Args:
            parts: the losses that count: "video", "action" or both.
            law: draws the levels that are trained on.
        """
        self.parts, self.law = tuple(parts), law
        self._clear()

    def add(self, losses: Losses, norm: Float[Tensor, ""]) -> None:
        """Takes a step in: the losses of its clips, and its gradient norm."""
        counts, levels = losses.counts, losses.levels
        video, actions = losses.by_clip()
        columns = (video, levels.video, counts.video.any(1), actions, levels.actions, counts.actions.any(1))
        self._clips.append(torch.stack([column.detach().float() for column in columns], 1))
        self._norms.append(norm.detach().float().reshape(1))

    def state(self) -> dict[str, Tensor]:
        """What came since the last reading: "clips" (n, 6) and "norms" (steps,), on the CPU."""
        clips, norms = (torch.cat([part.cpu() for part in parts]) for parts in (self._clips, self._norms))
        return {"clips": clips, "norms": norms}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a state, in place of what it has."""
        self._clips, self._norms = [state["clips"]], [state["norms"]]

    def read(self) -> dict[str, float]:
        """Means over the clips since the last reading.

        Returns:
            "video" and "action", whichever counts, over all clips and, as "video_low" and so on, over each band that
            has any; "grad_norm", the mean gradient norm; "with_actions", the share of clips whose actions count.
        """
        found = self.state()
        rows, norm = found["clips"].double().numpy(), found["norms"].mean().item()
        self._clear()
        share = float(rows[:, COLUMNS["action"][2]].mean())
        return {**means(rows, self.parts, self.law), "grad_norm": norm, "with_actions": share}

    def _clear(self) -> None:
        # Of every step (clips, 6) and (1,), behind an empty one that can stand alone.
        self._clips: list[Tensor] = [torch.zeros(0, 6)]
        self._norms: list[Tensor] = [torch.zeros(0)]


def means(rows: Float[np.ndarray, "n 6"], parts: Sequence[str], law: NoiseLaw) -> dict[str, float]:
    """Mean losses over the clips that count, and over each band of the part's own noise levels.

    Args:
        rows: of each clip, for the video and then for the actions: loss, noise level, and whether it counts (1 or 0).
        parts: which losses.
        law: draws the levels that are trained on.
    """
    found: dict[str, float] = {}
    for part, marginal in zip(COLUMNS, law.marginals(), strict=True):
        if part not in parts:
            continue
        losses, levels, counting = rows[:, COLUMNS[part]].T
        counts, bands = counting > 0, band(levels, marginal)
        # A batch in which no clip has actions has an action loss of zero.
        found[part] = float(losses[counts].mean()) if counts.any() else 0.0
        for index, name in enumerate(BANDS):
            inside = counts & (bands == index)
            if inside.any():
                found[f"{part}_{name}"] = float(losses[inside].mean())
    return found
