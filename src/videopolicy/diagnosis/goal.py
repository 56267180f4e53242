"""How a frame compares with demonstrations of its task: how unlike their ends it is, and how long they still took.

The end of a demonstration is its last frames, as many as `videopolicy record` goes on for at least after success.
Where its `--steps` (a least length, 75 by default) makes a demonstration go on longer, the end shows a robot that has
been done for a while, and the moment of success may have no like in it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.diagnosis.demonstrations import Demonstration
from videopolicy.rollout.demonstrate import AFTER_SUCCESS

NEIGHBOURS = 5
# Frames of a task that are compared with.
MOST = 4000


class Goal:
    """What one task's demonstrations look like on the way and at their ends."""

    def __init__(self, demonstrations: Sequence[Demonstration]) -> None:
        total = sum(len(shown.codes) for shown in demonstrations)
        every = -(-total // MOST)
        # From the last frame backwards, which must not be missing.
        chosen = [shown.codes.flip(0)[::every] for shown in demonstrations]
        self._frames = torch.cat(chosen).float().flatten(1)
        self._steps = torch.cat([torch.arange(len(codes)) * every for codes in chosen]).float()
        self._ends = torch.cat([shown.codes[-AFTER_SUCCESS - 1 :] for shown in demonstrations]).float().flatten(1)

    def distance(self, codes: Float[Tensor, "n K h w"]) -> Float[np.ndarray, "n"]:
        """Root mean square difference to the nearest frame of a demonstration's end."""
        near = torch.cdist(codes.float().flatten(1), self._ends).min(1).values
        return (near / self._ends.shape[1] ** 0.5).numpy()

    def remaining(self, codes: Float[Tensor, "n K h w"]) -> Float[np.ndarray, "n"]:
        """Steps to the end of a demonstration: the median over the nearest demonstrated frames.

        A frame unlike all of them also has nearest ones: the number is about what is recognised, not what is there.
        """
        near = torch.cdist(codes.float().flatten(1), self._frames)
        nearest = near.topk(min(NEIGHBOURS, near.shape[1]), dim=1, largest=False).indices
        return self._steps[nearest].quantile(0.5, dim=1).numpy()
