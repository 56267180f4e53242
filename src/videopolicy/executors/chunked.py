"""Receding horizon: executes the first actions of each plan, then asks again."""

import numpy as np
from jaxtyping import Float32

from videopolicy.client.chunks import NewestChunk
from videopolicy.executors.base import Ask, Executor
from videopolicy.types import Action


def make(ask: Ask, *, execute: int, latency: int = 0) -> "Chunked":
    """See `Executor`."""
    return Chunked(ask, execute=execute, latency=latency)


class Chunked(Executor):
    """Executes the newest plan that has arrived, from the action that is due.

    A plan comes `latency` steps late, when its first `latency` actions are past: what was executed in their place are
    the last actions of the plan before, which the policy was told as committed.
    """

    def forget(self) -> None:
        """See `Executor.forget`."""
        self._chunks = NewestChunk()

    def arrive(self, asked: int, actions: Float32[np.ndarray, "A D"]) -> None:
        """See `Executor.arrive`."""
        self._chunks.arrive(asked, actions)

    def action_at(self, step: int) -> Action:
        """See `Executor.action_at`."""
        return self._chunks.action_at(step)
