"""An executor that goes halfway between the newest plan and the one before."""

import numpy as np

from videopolicy.executors.base import Ask, Executor
from videopolicy.types import Action


def make(ask: Ask, *, execute: int, latency: int = 0) -> "Halfway":
    return Halfway(ask, execute=execute, latency=latency)


class Halfway(Executor):
    def forget(self) -> None:
        self._plans: list[tuple[int, np.ndarray]] = []

    def arrive(self, asked: int, actions: np.ndarray) -> None:
        self._plans = [*self._plans[-1:], (asked, actions)]

    def action_at(self, step: int) -> Action:
        said = [actions[step - asked] for asked, actions in self._plans if step - asked < len(actions)]
        return np.mean(said, 0, dtype=np.float32)
