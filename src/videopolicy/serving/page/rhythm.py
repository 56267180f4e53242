"""When clients are going to ask next, going by how they have asked: a robot executes a part of each plan meanwhile."""

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from math import inf
from time import monotonic

# Requests of a client that are remembered; and seconds after which one is taken to be idle, if it never paused so long.
REMEMBERED, IDLE = 9, 5.0


class Rhythm:
    """Tells how long nobody is going to ask.

    Args:
        clock: seconds, from any origin.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._requests: dict[int, deque[float]] = {}

    def asked(self, client: int, ago: float = 0.0) -> None:
        """A client's request came, so many seconds ago."""
        self._requests.setdefault(client, deque(maxlen=REMEMBERED)).append(self._clock() - ago)

    def forget(self, client: int) -> None:
        """A client is gone."""
        self._requests.pop(client, None)

    def free(self) -> float:
        """Seconds until the next request may come: no client asks sooner than it lately did at the soonest.

        0 if one may come at any time: a client has asked but once, or is due. Infinite if all are idle, as they may be
        for ever.
        """
        return min((self._left(list(times)) for times in self._requests.values()), default=inf)

    def _left(self, times: list[float]) -> float:
        since = self._clock() - times[-1]
        pauses = [after - before for before, after in pairwise(times)] or [0.0]
        if since > max(IDLE, 2 * max(pauses)):
            return inf
        return max(0.0, min(pauses) - since)
