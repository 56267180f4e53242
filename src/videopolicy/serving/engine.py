"""Plans for many clients, made in a thread of their own, so that whoever talks to the clients never waits for a plan.

Who asked first is planned first, and nobody has more than one request in a batch. On a CPU a plan does not depend, to
the bit, on what else is in its batch, as a checkpoint's policy plans row by row there; on a GPU it may differ by
rounding.
"""

from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic

import numpy as np

from videopolicy.errors import UserError
from videopolicy.policies.base import PlanRequest, Policy
from videopolicy.policies.batching import Batcher, plan_batch
from videopolicy.types import Observation, Plan


class BusyError(Exception):
    """So many requests wait already that this one is not taken; ask again later."""


@dataclass(frozen=True)
class Planned:
    """A plan and what it took.

    Attributes:
        plan: finite.
        waited: seconds from the request to the beginning of its batch.
        seconds: of its batch.
    """

    plan: Plan
    waited: float
    seconds: float


# Who asks aside.
_ASIDE = "aside"


@dataclass(frozen=True)
class _Waiting:
    future: Future[Planned]
    since: float


class Engine:
    """One thread that plans for all clients.

    Args:
        policy: plans; nobody else may use it meanwhile.
        batch: requests that are planned at once, at most. 1 suits a CPU, where a batch takes as long as its requests
            one by one, and all of them would wait for the last.
        queue: requests that wait at most; one more is refused.

    Attributes:
        clients: how many there are that may ask; where all of them wait, their batch waits for nobody else.
        example: what it was warmed up with.
    """

    def __init__(self, policy: Policy, *, batch: int = 1, queue: int = 64) -> None:
        self.clients = 0
        self._policy, self._most, self._queue = policy, batch, queue
        self._batcher = Batcher[Hashable](policy)
        self._waiting: dict[Hashable, _Waiting] = {}
        self._changed = Condition()
        self._stopping = False
        self._thread = Thread(target=self._run, name="plans", daemon=True)
        self._warm: Future[None] = Future()
        self.example: Observation | None = None
        # A request beside those of clients, and whether anything is being planned.
        self._aside: tuple[PlanRequest, _Waiting] | None = None
        self._planning = False

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._batcher)

    def start(self, example: Observation) -> None:
        """Starts the thread, plans for the example in every size of a batch, and returns when all is warm.

        Raises:
            UserError: the policy cannot plan for it, or plans what is not finite.
        """
        self.example = example
        self._thread.start()
        self._warm.result()

    def ask(self, key: Hashable, request: PlanRequest) -> Future[Planned]:
        """Takes a request, without waiting.

        Args:
            key: who asks; one request at a time.
            request: what for.

        Returns:
            The plan to come, or the error that kept it from being made: a UserError if the request was wrong or the
            plan is not finite.

        Raises:
            BusyError: too many wait, or no more are taken.
        """
        with self._changed:
            if self._stopping or len(self._batcher) >= self._queue:
                raise BusyError(f"{len(self._batcher)} requests wait already; ask again later")
            self._batcher.add(key, request)
            self._waiting[key] = _Waiting(Future(), monotonic())
            self._changed.notify()
            return self._waiting[key].future

    def ask_aside(self, request: PlanRequest) -> Future[Planned] | None:
        """Takes a request that no client makes, if nothing is planned and none waits.

        Returns:
            The plan to come, as `ask` does, cancelled if a client asks before it is begun; None if it was not taken.
        """
        with self._changed:
            if self._stopping or self._planning or self._batcher or self._aside:
                return None
            self._aside = request, _Waiting(Future(), monotonic())
            self._changed.notify()
            return self._aside[1].future

    def withdraw(self, key: Hashable) -> None:
        """Forgets the request of a client that is gone, unless it is being planned."""
        with self._changed:
            self._batcher.discard(key)
            self._waiting.pop(key, None)

    def close(self) -> None:
        """Takes no more requests, plans for those that wait, and returns when that is done."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            for size in range(1, self._most + 1):
                request = PlanRequest(self.example or Observation({}, ""), 0, False)
                for plan in plan_batch(self._policy, [request] * size):
                    _check_finite(plan)
        except Exception as error:
            # Whatever a policy raises is for whoever starts the server, in another thread.
            self._warm.set_exception(error)
            return
        self._warm.set_result(None)
        while taken := self._next():
            self._answer(*taken)

    def _next(self) -> tuple[dict[Hashable, PlanRequest], dict[Hashable, _Waiting]] | None:
        """The next batch; None if there is none any more."""
        with self._changed:
            self._planning = False
            while not self._batcher and not self._aside:
                if self._stopping:
                    return None
                self._changed.wait()
            aside, self._aside, self._planning = self._aside, None, True
            if aside and (self._batcher or self._stopping):
                aside[1].future.cancel()
            elif aside:
                return {_ASIDE: aside[0]}, {_ASIDE: aside[1]}
            # Whoever waits may be withdrawn meanwhile.
            while self._batcher and not self._complete() and (left := self._batcher.seconds_left):
                self._changed.wait(left)
            requests = self._batcher.take(self._most)
            return requests, {key: self._waiting.pop(key) for key in requests}

    def _complete(self) -> bool:
        """Whether nobody else can be of the next batch."""
        return self._stopping or len(self._batcher) >= min(self._most, max(1, self.clients))

    def _answer(self, requests: Mapping[Hashable, PlanRequest], waiting: Mapping[Hashable, _Waiting]) -> None:
        begun = monotonic()
        try:
            plans = plan_batch(self._policy, list(requests.values())) if requests else []
        except Exception as error:
            # A policy may raise anything; the server goes on for all others.
            if len(requests) == 1:
                _fail(next(iter(waiting.values())), error)
                return
            # One of them is at fault; the others are not to suffer from it.
            for key, request in requests.items():
                self._answer({key: request}, {key: waiting[key]})
            return
        seconds = monotonic() - begun
        for one, plan in zip(waiting.values(), plans, strict=True):
            try:
                _check_finite(plan)
            except UserError as error:
                _fail(one, error)
            else:
                # One whose client is gone may have been cancelled.
                if one.future.set_running_or_notify_cancel():
                    one.future.set_result(Planned(plan, begun - one.since, seconds))


def _fail(one: _Waiting, error: Exception) -> None:
    if one.future.set_running_or_notify_cancel():
        one.future.set_exception(error)


def _check_finite(plan: Plan) -> None:
    bad = np.argwhere(~np.isfinite(plan.actions))
    if len(bad):
        raise UserError(f"the plan is not finite: action {bad[0][0]}, dimension {bad[0][1]}; no such action is sent")
