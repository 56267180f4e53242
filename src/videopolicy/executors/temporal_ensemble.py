"""Temporal ensembling (Zhao et al. 2023, ACT, arXiv 2304.13705, section IV-B): averages all plans for the same step."""

import numpy as np
from jaxtyping import Float32

from videopolicy.client.chunks import ChunkMean
from videopolicy.executors.base import Ask, Executor
from videopolicy.types import Action


def make(ask: Ask, *, execute: int, latency: int = 0) -> "TemporalEnsemble":
    """See `Executor`; the paper asks at every step: `execute` 1."""
    return TemporalEnsemble(ask, execute=execute, latency=latency)


class TemporalEnsemble(Executor):
    """Executes the exponentially weighted mean of what all plans that have arrived say of the current step."""

    def forget(self) -> None:
        """See `Executor.forget`."""
        self._chunks = ChunkMean()

    def arrive(self, asked: int, actions: Float32[np.ndarray, "A D"]) -> None:
        """See `Executor.arrive`."""
        self._chunks.arrive(asked, actions)

    def action_at(self, step: int) -> Action:
        """See `Executor.action_at`."""
        return self._chunks.action_at(step)
