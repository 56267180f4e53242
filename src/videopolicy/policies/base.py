"""What the rest of the project asks of a policy, and of the model behind one."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from videopolicy.types import Action, Observation, Plan

# Asks for the plan from one observation; the integer seeds all of the plan's noise.
Ask = Callable[[Observation, int], Plan]


class Policy(ABC):
    """Acts in one episode at a time."""

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Begins an episode; everything random until the next reset comes from this seed."""

    @abstractmethod
    def act(self, observation: Observation) -> Action:
        """The action for this control step, in the env's own units, (D,)."""


class Planner(Protocol):
    """What a model offers: batched and stateless, so that one model serves many episodes at once."""

    @property
    def views(self) -> tuple[str, ...]:
        """The views that an observation must hold."""
        ...

    @property
    def size(self) -> int:
        """Height and width of their images, in pixels."""
        ...

    @property
    def action_width(self) -> int:
        """D, the width of an action."""
        ...

    @property
    def action_layout(self) -> str:
        """What its dimensions mean (see `videopolicy.actions.layout`), "" if nobody said."""
        ...

    @property
    def state_layout(self) -> str:
        """What the dimensions of the state in an observation must mean, "" if it is not looked at."""
        ...

    @property
    def fps(self) -> float | None:
        """Control steps a second that its actions are meant for, None if nobody said."""
        ...

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """One plan per observation, in order.

        Args:
            observations: what is seen now, of independent episodes.
            seeds: the seed of each plan's noise; a plan depends on its own observation and seed alone.
            imagine: whether to return the imagined video, for all or for each.
        """
        ...


def derive_seed(*names: int | str) -> int:
    """A seed in [0, 2^63) that depends on these names alone, not on the process or the order of the calls."""
    digest = hashlib.sha256("\0".join(str(name) for name in names).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
