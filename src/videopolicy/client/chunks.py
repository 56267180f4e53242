"""What the chunks that have arrived say of a control step: the newest alone, or the mean of all."""

from __future__ import annotations

import numpy as np

# m of the paper's weights w_i = exp(-m i), where i = 0 is the oldest chunk: the smaller, the faster new ones count.
DECAY = 0.01


class NewestChunk:
    """Receding horizon: the last chunk that arrived replaces all before.

    Attributes:
        asked: the step at which the newest chunk was asked for: what its first action is meant for.
        until: the step after the last one that there is an action for.
    """

    def __init__(self) -> None:
        self.asked = self.until = 0
        self._actions = np.zeros((0, 0), np.float32)

    def arrive(self, asked: int, actions: np.ndarray) -> None:
        """Takes a chunk.

        Args:
            asked: row k of the actions is meant for step `asked` + k.
            actions: (A, D) float32.
        """
        self.asked, self.until, self._actions = asked, asked + len(actions), actions

    def action_at(self, step: int) -> np.ndarray:
        """The action for a step, (D,), which lies before `until`."""
        return self._actions[step - self.asked]


class ChunkMean:
    """Temporal ensembling: the exponentially weighted mean of what all chunks say of a step.

    After Zhao et al. 2023, ACT, arXiv 2304.13705, section IV-B.

    Attributes:
        asked: see `NewestChunk`.
        until: likewise, of the newest chunk.
    """

    def __init__(self) -> None:
        self.asked = self.until = 0
        # When each was asked for, and its actions; the oldest first.
        self._chunks: list[tuple[int, np.ndarray]] = []

    def arrive(self, asked: int, actions: np.ndarray) -> None:
        """See `NewestChunk.arrive`."""
        # One that ends before this one begins will never be asked about again.
        self._chunks = [(start, earlier) for start, earlier in self._chunks if start + len(earlier) > asked]
        self._chunks.append((asked, actions))
        self.asked, self.until = asked, asked + len(actions)

    def action_at(self, step: int) -> np.ndarray:
        """See `NewestChunk.action_at`."""
        covering = [actions[step - asked] for asked, actions in self._chunks if asked <= step < asked + len(actions)]
        weights = np.exp(-DECAY * np.arange(len(covering)))
        mean: np.ndarray = (weights @ np.stack(covering) / weights.sum()).astype(np.float32)
        return mean
