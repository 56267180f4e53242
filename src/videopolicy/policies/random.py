"""Chance level: every action is drawn at random, whatever is seen."""

from collections.abc import Sequence

import numpy as np

from videopolicy.errors import UserError
from videopolicy.policies.base import PolicySpec
from videopolicy.types import Observation, Plan

# Any chunk will do; this one is long enough for any executor.
CHUNK, EXECUTE = 64, 16
# Of the images that nobody needs but the recordings.
SIZE = 64
MOST_WIDTH = 1000

EXAMPLE = "2"


def make(target: str) -> "RandomPolicy":
    """A policy of uniform actions.

    Args:
        target: the width of an action, in digits.

    Raises:
        UserError: it is no such number.
    """
    if not (target.isascii() and target.isdigit() and 1 <= int(target) <= MOST_WIDTH):
        raise UserError(
            f"policy random: {target!r} is no width of an action; give a whole number from 1 to {MOST_WIDTH}, such as "
            "--policy random:4"
        )
    return RandomPolicy(int(target))


class RandomPolicy:
    """Uniform actions in [-1, 1], independent of each other; a `videopolicy.policies.base.Policy`.

    Args:
        width: D, the width of an action.
    """

    def __init__(self, width: int) -> None:
        note = "actions are drawn at random in [-1, 1]: this measures chance"
        self.spec = PolicySpec(views=(), size=SIZE, action_width=width, chunk=CHUNK, execute=EXECUTE, notes=(note,))

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """One plan a seed; see `Policy.plan`. There is no video."""
        shape = (self.spec.chunk, self.spec.action_width)
        draws = [np.random.default_rng(seed).uniform(-1, 1, shape) for seed in seeds]
        return [Plan(actions.astype(np.float32)) for actions in draws]
