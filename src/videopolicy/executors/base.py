"""Which action is executed now, when the policy is asked, and what is already committed when it answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from videopolicy.errors import UserError
from videopolicy.policies.base import derive_seed
from videopolicy.types import Action, Observation, Plan

# Asks for the plan from one observation; the integer seeds all of the plan's noise.
Ask = Callable[[Observation, int], Plan]


class NotFiniteError(UserError):
    """A plan holds actions that are no numbers."""


def check_timing(execute: int, latency: int, chunk: int | None = None) -> None:
    """Refuses a rhythm of asking and executing that no executor keeps.

    Args:
        execute: control steps from one request for a plan to the next.
        latency: control steps from a request to its plan.
        chunk: actions of a plan, if that is known.

    Raises:
        UserError: says what would be right.
    """
    if execute < 1:
        raise UserError(f"execute is {execute}; at least 1 action of each plan must be executed")
    if latency < 0:
        raise UserError(f"latency is {latency}; a plan cannot arrive before it is asked for")
    if execute < latency:
        raise UserError(
            f"execute is {execute}, but a plan takes {latency} control steps: the policy would be asked before it has "
            f"answered; execute at least {latency} actions of each plan"
        )
    if chunk is not None and chunk < execute + latency:
        late = f" and latency {latency}" if latency else ""
        raise UserError(f"execute is {execute}{late}, but a plan has only {chunk} actions")


class Executor(ABC):
    """Acts in one episode at a time, in the env's process.

    It asks for a plan at step 0 and every `execute` steps from then on. The plan that is asked for at step t arrives
    at step t + `latency`, and no action depends on it before; the first plan of an episode arrives before anything
    moves.

    In one process with a policy:

    >>> executor = Chunked(lambda observation, seed: policy.plan([observation], [seed], False)[0], execute=16)

    Args:
        ask: plans; it is called when a plan is asked for, and blocks.
        execute: control steps from one request to the next.
        latency: control steps from a request to its plan, at most `execute`.

    Attributes:
        plans: how many plans this episode has asked for.

    Raises:
        UserError: see `check_timing`.
    """

    def __init__(self, ask: Ask, *, execute: int, latency: int = 0) -> None:
        check_timing(execute, latency)
        self._ask = ask
        self._execute = execute
        self._latency = latency
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begins an episode, and forgets the last one; the noise of its plan i comes from (seed, i)."""
        self._seed = seed
        self._step = 0
        # When it was asked for, and the plan.
        self._pending: tuple[int, Plan] | None = None
        # The step after the last one that the newest plan to arrive has an action for.
        self._until = 0
        self.plans = 0
        self.forget()

    @property
    def needs_observation(self) -> bool:
        """Whether the next `act` asks for a plan, and so needs an observation; otherwise nothing need be rendered."""
        return self._step % self._execute == 0

    def act(self, observation: Observation | None) -> Action:
        """The action for this control step, in the env's own units, (D,).

        Args:
            observation: what is seen now; ignored, and may be None, unless `needs_observation`.

        Raises:
            NotFiniteError: a plan that has arrived holds actions that are no numbers.
            UserError: a plan has fewer actions than `execute` and `latency` together.
        """
        self._receive()
        if self.needs_observation:
            if observation is None:
                raise ValueError("an observation is needed when a plan is asked for")
            self._request(observation)
            self._receive()
        action = self.action_at(self._step)
        self._step += 1
        return action

    def _request(self, observation: Observation) -> None:
        ahead = range(self._step, self._until)
        if ahead:
            planned = np.stack([self.action_at(step) for step in ahead])
            observation = replace(observation, planned=planned, committed=self._latency)
        self._pending = (self._step, self._ask(observation, derive_seed(self._seed, self.plans)))
        self.plans += 1

    def _receive(self) -> None:
        """Takes the plan that is asked for, if it has arrived by now."""
        if self._pending is None:
            return
        asked, plan = self._pending
        if asked and self._step < asked + self._latency:
            return
        self._pending = None
        check_timing(self._execute, self._latency, len(plan.actions))
        if not np.isfinite(plan.actions).all():
            raise NotFiniteError("a plan's actions are not finite; the checkpoint may have diverged in training")
        self._until = asked + len(plan.actions)
        self.arrive(asked, plan.actions)

    @abstractmethod
    def forget(self) -> None:
        """Drops all plans that have arrived."""

    @abstractmethod
    def arrive(self, asked: int, actions: Float32[np.ndarray, "A D"]) -> None:
        """Takes a plan that has just arrived.

        Args:
            asked: the step at which it was asked for; row k of its actions is meant for step `asked` + k.
            actions: finite, at least `execute` + `latency` of them.
        """

    @abstractmethod
    def action_at(self, step: int) -> Action:
        """The action for a step, (D,), by the plans that have arrived; they reach to `latency` steps from now on."""
