"""Requests for plans from independent episodes, collected for a moment and planned as one batch."""

from collections.abc import Callable, Sequence
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

from videopolicy.policies.base import PlanRequest, Policy
from videopolicy.types import Plan

# How long a request waits for others to share its batch: little beside a plan, enough for a message.
GATHER_SECONDS = 0.005

K = TypeVar("K")


class Batcher(Generic[K]):
    """Collects requests until the oldest has waited long enough; then whoever drives it calls `plan`.

    It starts no thread. `plan` may run in another thread than `add`: a request that comes meanwhile is of the next
    batch.

    Args:
        policy: plans for all of them.
        clock: seconds, from any origin.
    """

    def __init__(self, policy: Policy, clock: Callable[[], float] = monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._lock = Lock()
        self._requests: dict[K, PlanRequest] = {}
        self._due = 0.0

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._requests)

    def __contains__(self, key: K) -> bool:
        """Whether a request of this asker waits."""
        return key in self._requests

    def add(self, key: K, request: PlanRequest) -> None:
        """Takes a request.

        Args:
            key: who asks; one request at a time.
            request: what for.
        """
        with self._lock:
            if key in self._requests:
                raise ValueError(f"{key} has asked already")
            if not self._requests:
                self._due = self._clock() + GATHER_SECONDS
            self._requests[key] = request

    @property
    def seconds_left(self) -> float:
        """How long the batch may still wait for more requests; 0 when it is to be planned now.

        Raises:
            ValueError: no request waits.
        """
        if not self._requests:
            raise ValueError("no request waits")
        return max(0.0, self._due - self._clock())

    def discard(self, key: K) -> None:
        """Forgets the request of an asker who is gone, if one waits."""
        with self._lock:
            self._requests.pop(key, None)

    def take(self, most: int | None = None) -> dict[K, PlanRequest]:
        """Who asked and what for, in the order of the requests; they wait no longer.

        Args:
            most: take the oldest of them, so many; None for all.
        """
        with self._lock:
            keys = list(self._requests)[:most]
            return {key: self._requests.pop(key) for key in keys}

    def plan(self) -> list[tuple[K, Plan]]:
        """Plans what has been collected; returns who asked and the plan, in the order of the requests."""
        requests = self.take()
        return list(zip(requests, plan_batch(self._policy, list(requests.values())), strict=True))


def plan_batch(policy: Policy, requests: Sequence[PlanRequest]) -> list[Plan]:
    """One plan a request, in order."""
    return policy.plan(
        [request.observation for request in requests],
        [request.seed for request in requests],
        [request.imagine for request in requests],
    )
