"""What a server did last, as far as its page shows it: bounded, however many clients there are and whatever they do.

The server tells it from its event loop, after the client has its answer, and nothing here does more than keep it. Of
images it keeps, for each client shown, those of the last request and of the one that was last imagined.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from videopolicy.policies.base import PlanRequest
from videopolicy.serving.page.rhythm import Rhythm
from videopolicy.types import Frames, Plan

# Clients whose images and plans are kept; of each, plans and latencies; events; letters of an event.
SHOWN, PLANS, LATENCIES, EVENTS, LETTERS = 8, 12, 100, 60, 200


@dataclass(frozen=True)
class Sent:
    """An answer that a client was sent.

    Attributes:
        request: what it asked.
        plan: as the policy made it.
        actions: as they were sent: within the limits.
        waited: seconds in the queue.
        planned: seconds that the plan, or its batch, took.
        total: seconds from the request's arrival until the answer was sent.
    """

    request: PlanRequest
    plan: Plan
    actions: Float32[np.ndarray, "A D"]
    waited: float
    planned: float
    total: float


@dataclass(frozen=True)
class Dream:
    """What the policy imagined for a client's request.

    Attributes:
        request: for which.
        frames: view -> (T, H, W, 3).
        offsets: control steps from the request to each of these.
        at: when, in seconds since 1970.
    """

    request: PlanRequest
    frames: Mapping[str, Frames]
    offsets: tuple[int, ...]
    at: float


@dataclass
class Watched:
    """A client that the page shows.

    Attributes:
        number: which connection of the server's it is, from 0.
        address: where it is, for people.
        since: when it came, in seconds since 1970.
        connected: whether it still is.
        requests: how many were answered.
        limited: how many numbers of its actions were beyond the limits.
        asked: when its last answered request came, in seconds since 1970.
        last: its last answer.
        dream: what was last imagined for it.
        trace: (control step of the first action, planned, sent) of its last plans since its last reset.
        latencies: (waited, planned, total) of its last requests, in seconds.
    """

    number: int
    address: str
    since: float
    connected: bool = True
    requests: int = 0
    limited: int = 0
    asked: float = 0.0
    last: Sent | None = None
    dream: Dream | None = None
    trace: deque[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=lambda: deque(maxlen=PLANS))
    latencies: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=LATENCIES))


@dataclass
class Happened:
    """Something that happened, perhaps several times on end.

    Attributes:
        number: counts what happened, from 0.
        at: the last time, in seconds since 1970.
        kind: a word.
        client: whose it was; None if nobody's.
        words: what there is to say.
        times: how often.
    """

    number: int
    at: float
    kind: str
    client: int | None
    words: str
    times: int = 1


class Latest:
    """Is told what the server does.

    Args:
        execute: how many actions of a plan a client is taken to execute, unless its requests say what is left.

    Attributes:
        clients: those shown, by number.
        events: what happened, the oldest first.
        rhythm: when clients are going to ask.
        told: set whenever a client has got an answer.
    """

    def __init__(self, execute: int) -> None:
        self.clients: dict[int, Watched] = {}
        self.events: deque[Happened] = deque(maxlen=EVENTS)
        self.rhythm = Rhythm()
        self.told = asyncio.Event()
        self._execute, self._count = execute, 0

    def connected(self, number: int, address: str) -> None:
        """A client has come; where there is no room, those who are gone, then those who asked longest ago, give way."""
        while len(self.clients) >= SHOWN:
            self.clients.pop(min(self.clients.values(), key=lambda one: (one.connected, one.asked, one.number)).number)
        self.clients[number] = Watched(number, address, time.time())

    def gone(self, number: int) -> None:
        """A client is gone; it is shown until another one needs the room."""
        self.rhythm.forget(number)
        if number in self.clients:
            self.clients[number].connected = False
        self.happened("gone", number)

    def reset(self, number: int) -> None:
        """A client has begun an episode."""
        if number in self.clients:
            self.clients[number].trace.clear()
        self.happened("reset", number)

    def sent(self, number: int, sent: Sent) -> None:
        """A client was sent a plan."""
        self.rhythm.asked(number, sent.total)
        client = self.clients.get(number)
        if client is not None:
            step = client.trace[-1][0] + self._executed(sent) if client.trace else 0
            client.trace.append((step, sent.plan.actions, sent.actions))
            client.latencies.append((sent.waited, sent.planned, sent.total))
            client.requests += 1
            client.limited += int((sent.plan.actions != sent.actions).sum())
            client.asked, client.last = time.time() - sent.total, sent
            if sent.plan.imagined is not None:
                self.dreamt(client, sent.request, sent.plan)
        self.told.set()

    def dreamt(self, client: Watched, request: PlanRequest, plan: Plan) -> None:
        """A client's future was imagined."""
        if plan.imagined is not None:
            client.dream = Dream(request, plan.imagined, plan.offsets, time.time())

    def happened(self, kind: str, client: int | None = None, words: str = "", times: int = 1) -> None:
        """Keeps an event; what happens again and again is kept once."""
        words, last = words[:LETTERS], self.events[-1] if self.events else None
        if last and (last.kind, last.client, last.words) == (kind, client, words):
            last.at, last.times = time.time(), last.times + times
            return
        self.events.append(Happened(self._count, time.time(), kind, client, words, times))
        self._count += 1

    def _executed(self, sent: Sent) -> int:
        """How many actions of the plan before were executed when this one was asked for."""
        left = sent.request.observation.planned
        return self._execute if left is None else max(0, len(sent.actions) - len(left))
