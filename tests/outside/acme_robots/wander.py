"""A policy that walks on at random: each action is the one before, moved a little."""

from collections.abc import Sequence

import numpy as np

from videopolicy.policies.base import PolicySpec
from videopolicy.types import Observation, Plan

EXAMPLE = "0.5"


def make(target: str) -> "Wander":
    """A policy of two actions; the target is how far an action moves, such as 0.5."""
    return Wander(float(target))


class Wander:
    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.spec = PolicySpec(views=(), size=32, action_width=2, chunk=16, execute=8)

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        moves = [np.random.default_rng(seed).normal(0, self.pace, (16, 2)).cumsum(0) for seed in seeds]
        return [Plan(np.clip(walk, -1, 1).astype(np.float32)) for walk in moves]
