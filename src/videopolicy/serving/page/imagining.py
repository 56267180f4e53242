"""What the policy imagines, drawn for the page in the moments in which no client wants a plan.

A plan that a robot is executing is made once more, from the same observation and seed, and this time with its video:
so it is the future that the policy meant. It is begun only when the engine has nothing to do and no client is going to
ask before it is done, going by how they have asked (see `rhythm`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from statistics import median

from videopolicy.policies.base import PlanRequest
from videopolicy.serving.engine import Engine, Planned
from videopolicy.serving.page.latest import Latest, Watched

# There must be so much more time than such a plan takes, the median of so many; and how many are drawn at first.
MARGIN, REMEMBERED, WARM = 2.0, 8, 3
# Seconds between two of them, at least; and so many times what the last one took.
PAUSE, SHARE = 1.0, 4.0
# Seconds after which it is looked for a moment again, if no client has been answered.
WAIT = 0.5


class Imagining:
    """Draws the imagined video of the clients in turn.

    Args:
        engine: whose idle moments are used.
        latest: of the clients.
        wanted: whether anybody looks at the page.
    """

    def __init__(self, engine: Engine, latest: Latest, wanted: Callable[[], bool]) -> None:
        self._engine, self._latest, self._wanted = engine, latest, wanted
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    async def warm_up(self) -> None:
        """Draws some, so that it is known how long that takes; before clients come.

        Raises:
            Exception: whatever the policy raises.
        """
        if self._engine.example is None:
            raise RuntimeError("the engine has not been started")
        request = PlanRequest(self._engine.example, 0, True)
        for _ in range(1 + WARM):
            self._seconds.append((await asyncio.wrap_future(self._engine.ask(self, request))).seconds)
        # The first one may take longer than all others.
        self._seconds.popleft()

    async def run(self) -> None:
        """Draws whenever there is time; until there is no video, or a plan fails, which is then said as an event."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._latest.told.wait(), WAIT)
            self._latest.told.clear()
            client = self._next()
            if client is None or client.last is None or not self._wanted() or not self._time():
                continue
            request = client.last.request
            try:
                planned = await self._plan(replace(request, imagine=True))
            except Exception as error:
                # A policy may raise anything. Clients are better off without another try.
                self._latest.happened("imagining failed", words=f"not tried again: {type(error).__name__}")
                return
            if planned and planned.plan.imagined is None:
                return
            if planned:
                self._seconds.append(planned.seconds)
                self._latest.dreamt(client, request, planned.plan)
                await asyncio.sleep(max(PAUSE, SHARE * planned.seconds))

    def _next(self) -> Watched | None:
        """The client whose last plan was not imagined yet, and whose turn was longest ago."""
        waiting = [
            client
            for client in self._latest.clients.values()
            if client.last and not (client.dream and client.dream.request is client.last.request)
        ]
        return min(waiting, key=lambda client: client.dream.at if client.dream else 0.0, default=None)

    def _time(self) -> bool:
        return self._latest.rhythm.free() >= MARGIN * median(self._seconds)

    async def _plan(self, request: PlanRequest) -> Planned | None:
        """A plan, or None if the engine is busy, or a client asked before it was begun."""
        future = self._engine.ask_aside(request)
        if future is None:
            return None
        coming = asyncio.wrap_future(future)
        try:
            # Waits without raising, so that a plan that was dropped is told from this task's own end.
            await asyncio.wait({coming})
        finally:
            coming.cancel()
        return None if coming.cancelled() else coming.result()
