"""Temporal ensembling (Zhao et al. 2023, ACT, arXiv 2304.13705, section IV-B): averages all plans for the same step."""

import numpy as np
from jaxtyping import Float32

from videopolicy.executors.base import Ask, Executor
from videopolicy.types import Action

# m of the paper's weights w_i = exp(-m i), where i = 0 is the oldest plan: the smaller, the faster new plans count.
DECAY = 0.01


def make(ask: Ask, *, execute: int, latency: int = 0) -> "TemporalEnsemble":
    """See `Executor`; the paper asks at every step: `execute` 1."""
    return TemporalEnsemble(ask, execute=execute, latency=latency)


class TemporalEnsemble(Executor):
    """Executes the exponentially weighted mean of what all plans that have arrived say of the current step."""

    def forget(self) -> None:
        """See `Executor.forget`."""
        # When each was asked for, and its actions; the oldest first.
        self._plans: list[tuple[int, Float32[np.ndarray, "A D"]]] = []

    def arrive(self, asked: int, actions: Float32[np.ndarray, "A D"]) -> None:
        """See `Executor.arrive`."""
        # One that ends before this one begins will never be asked about again.
        self._plans = [(start, earlier) for start, earlier in self._plans if start + len(earlier) > asked]
        self._plans.append((asked, actions))

    def action_at(self, step: int) -> Action:
        """See `Executor.action_at`."""
        covering = [actions[step - asked] for asked, actions in self._plans if asked <= step < asked + len(actions)]
        weights = np.exp(-DECAY * np.arange(len(covering)))
        return (weights @ np.stack(covering) / weights.sum()).astype(np.float32)
