"""Losses and gradients from one line of the log to the next, by noise level."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from videopolicy.diffusion.edm import LogNormal
from videopolicy.diffusion.loss import Losses

BANDS = ("low", "middle", "high")
# Columns of what is kept of a clip.
_VIDEO, _ACTION, _SIGMA, _HAS_ACTIONS = range(4)


def edges(noise: LogNormal) -> Float[np.ndarray, "2"]:
    """The two noise levels that cut a distribution into three bands of the same probability."""
    normal = NormalDist(noise.mean, noise.std)
    return np.exp([normal.inv_cdf(1 / 3), normal.inv_cdf(2 / 3)])


def band(sigma: Float[np.ndarray, "n"], noise: LogNormal) -> Int[np.ndarray, "n"]:
    """The band of each noise level: 0 for the lowest third of the levels that are trained on, to 2."""
    return np.digitize(sigma, edges(noise))


class LossStats:
    """Collects what steps come to, and never waits for the device before it is read."""

    def __init__(self, parts: Sequence[str], noise: LogNormal) -> None:
        """An empty one.

        Args:
            parts: the losses that are learnt by: "video", "action" or both.
            noise: the levels that are trained on.
        """
        self.parts, self.noise = tuple(parts), noise
        self._clear()

    def add(self, losses: Losses, norm: Float[Tensor, ""]) -> None:
        """Takes a step in: the losses of its clips, and the length of its gradient."""
        columns = (losses.video.mean(1), losses.actions.mean(1), losses.sigma, losses.has_actions)
        self._clips.append(torch.stack([column.detach().float() for column in columns], 1))
        self._norms.append(norm.detach().float().reshape(1))

    def state(self) -> dict[str, Tensor]:
        """What came since the last reading: "clips" (n, 4) and "norms" (steps,), on the CPU."""
        clips, norms = (torch.cat([part.cpu() for part in parts]) for parts in (self._clips, self._norms))
        return {"clips": clips, "norms": norms}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a state, in place of what it has."""
        self._clips, self._norms = [state["clips"]], [state["norms"]]

    def read(self) -> dict[str, float]:
        """Means over the clips since the last reading.

        Returns:
            "video" and "action", whichever is learnt by, over all clips and, as "video_low" and so on, over each band
            that has any; "gradient", the mean length of the gradient; "with_actions", the share of clips that have
            actions.
        """
        found = self.state()
        rows, norm = found["clips"].double().numpy(), found["norms"].mean().item()
        self._clear()
        share = float(rows[:, _HAS_ACTIONS].mean())
        return {**means(rows, self.parts, self.noise), "gradient": norm, "with_actions": share}

    def _clear(self) -> None:
        # Of every step (clips, 4) and (1,), behind an empty one that can stand alone.
        self._clips: list[Tensor] = [torch.zeros(0, 4)]
        self._norms: list[Tensor] = [torch.zeros(0)]


def means(rows: Float[np.ndarray, "n 4"], parts: Sequence[str], noise: LogNormal) -> dict[str, float]:
    """Mean losses over all clips and over each band; clips without actions count for the video alone.

    Args:
        rows: of each clip its video loss, action loss, noise level, and whether it has actions (1 or 0).
        parts: which losses.
        noise: the levels that are trained on.
    """
    bands = band(rows[:, _SIGMA], noise)
    found: dict[str, float] = {}
    for part in parts:
        counts = np.ones(len(rows), bool) if part == "video" else rows[:, _HAS_ACTIONS] > 0
        losses = rows[:, _VIDEO if part == "video" else _ACTION]
        # A batch in which no clip has actions has an action loss of zero.
        found[part] = float(losses[counts].mean()) if counts.any() else 0.0
        for index, name in enumerate(BANDS):
            inside = counts & (bands == index)
            if inside.any():
                found[f"{part}_{name}"] = float(losses[inside].mean())
    return found
