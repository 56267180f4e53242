"""Receding horizon: executes the first actions of each plan, then looks again."""

from collections import deque

import numpy as np

from videopolicy.errors import UserError
from videopolicy.policies.base import Ask, Policy, derive_seed
from videopolicy.types import Action, Observation


class NotFiniteError(UserError):
    """A plan holds actions that are no numbers."""


class Chunked(Policy):
    """Executes the first `execute` actions of each plan, then looks again.

    In one process with a planner:

    >>> policy = Chunked(lambda observation, seed: planner.plan([observation], [seed], False)[0], execute=16)

    Attributes:
        plans: how many plans this episode has asked for.
    """

    def __init__(self, ask: Ask, execute: int) -> None:
        if execute < 1:
            raise UserError(f"execute is {execute}; at least 1 action of each plan must be executed")
        self._ask = ask
        self._execute = execute
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begins an episode; the noise of its plan i comes from (seed, i)."""
        self._seed = seed
        self._queue: deque[Action] = deque()
        self.plans = 0

    @property
    def needs_observation(self) -> bool:
        """Whether the next `act` plans, and so needs an observation; between plans nothing need be rendered."""
        return not self._queue

    def act(self, observation: Observation | None) -> Action:
        """The next action, (D,); asks for a plan first if the last one is used up.

        Args:
            observation: what is seen now; ignored, and may be None, unless `needs_observation`.

        Raises:
            NotFiniteError: a plan holds actions that are no numbers.
            UserError: a plan is shorter than `execute`.
        """
        if self.needs_observation:
            if observation is None:
                raise ValueError("an observation is needed when the policy looks")
            self._queue.extend(self._planned(observation))
        return self._queue.popleft()

    def _planned(self, observation: Observation) -> Action:
        actions = self._ask(observation, derive_seed(self._seed, self.plans)).actions
        self.plans += 1
        if len(actions) < self._execute:
            raise UserError(f"execute is {self._execute}, but a plan has only {len(actions)} actions")
        if not np.isfinite(actions).all():
            raise NotFiniteError("a plan's actions are not finite; the checkpoint may have diverged in training")
        return actions[: self._execute]
