"""A control loop that never waits for the network: the next chunk is asked for while the current one is executed."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

import numpy as np

from .chunks import ChunkMean, NewestChunk
from .errors import ClientError, TooOld
from .watchdog import Step, Watchdog

# Seconds between two questions, if the first one was not answered.
PAUSE = 0.05
# Connecting may take so long, even where answers have to come sooner: nobody waits for it but the asking thread.
CONNECT_SECONDS = 1.0
# The slowest of so many answers says when the next one has to be asked for.
REMEMBERED = 8
CLOSE_SECONDS = 1.0
EXECUTORS = {"real_time": NewestChunk, "chunked": NewestChunk, "temporal_ensemble": ChunkMean}


class ClientLike(Protocol):
    """What a driver needs of `Client`."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """See `Client.metadata`."""
        ...

    @property
    def extended(self) -> bool:
        """See `Client.extended`."""
        ...

    @property
    def connections(self) -> int:
        """See `Client.connections`."""
        ...

    def connect(self, timeout: float | None = None) -> None:
        """See `Client.connect`."""
        ...

    def infer(self, observation: Mapping[str, object], timeout: float | None = None) -> dict[str, object]:
        """See `Client.infer`."""
        ...

    def reset(self, timeout: float | None = None) -> None:
        """See `Client.reset`."""
        ...


@dataclass(frozen=True)
class Lateness:
    """How a driver keeps time, since it began.

    Attributes:
        steps: control steps.
        held: of these, steps without a fresh action.
        worst: seconds, the latest that a fresh action was.
        latency: seconds, the slowest of the last answers; 0 before the first.
        too_old: observations that were not sent, or not answered, because they were too old.
        failures: questions without an answer.
        reconnections: connections that were made anew.
        error: the last failure, until an answer comes.
    """

    steps: int
    held: int
    worst: float
    latency: float
    too_old: int
    failures: int
    reconnections: int
    error: Exception | None


@dataclass(frozen=True)
class _Seen:
    observation: Mapping[str, object]
    at: float
    taken: int
    episode: int


class Driver:
    """One action a control step, whatever the server does.

    >>> with Client(url) as client, Driver(client, rate=20, bound=0.1, when_late="stop") as driver:
    ...     while not done:
    ...         step = driver.act(look())
    ...         move(step.action)

    A thread asks for chunks. Each is asked for so early that, by the slowest of the last answers, it is there when
    `execute` actions of the one before are done; it goes on at the action that is due when it arrives. A server of ours
    is told what will be executed until then (`planned`, `committed`), so that chunks join without a jump, unless an
    answer is later than the eight before it.

    Args:
        server: a `Client`; it stays open when the driver is closed.
        rate: control steps a second.
        bound: seconds that a step waits for a fresh action before it holds or stops; 0 for not at all.
        when_late: "hold", or "stop": see `Watchdog`.
        safe_action: (D,), what holds the robot; by default its last action again.
        first_bound: seconds that the first step of an episode waits.
        execute: actions of each chunk before the next one is to be there; None for what the server's metadata says
            (`execute`), or else the whole chunk.
        max_age: seconds; an observation that is older when it could be sent is not sent.
        executor: "real_time" acts as said above; "temporal_ensemble" likewise, by the mean of all chunks that speak of
            a step; "chunked" asks when `execute` actions are done, with what is seen then, and waits, so that `bound`
            must be longer than an answer takes.
        timeout: seconds after which an answer is given up, and the connection with it; that of the first answer is
            `first_bound`, if that is longer.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        server: ClientLike,
        rate: float,
        *,
        bound: float = 0.1,
        when_late: Literal["hold", "stop"] = "hold",
        safe_action: np.ndarray | None = None,
        first_bound: float = 30.0,
        execute: int | None = None,
        max_age: float = 0.5,
        executor: Literal["real_time", "chunked", "temporal_ensemble"] = "real_time",
        timeout: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (rate > 0 and max_age > 0 and timeout > 0):
            raise ValueError("rate, max_age and timeout must be more than 0")
        if execute is not None and execute < 1:
            raise ValueError(f"execute is {execute}; at least 1 action of each chunk must be executed")
        if executor not in EXECUTORS:
            raise ValueError(f"executor is {executor!r}; {', '.join(EXECUTORS)} are right")
        self._server, self._rate, self._execute, self._waits = server, rate, execute, executor == "chunked"
        self._max_age, self._timeout, self._first_bound, self._clock = max_age, timeout, first_bound, clock
        self._watchdog = Watchdog(bound, when_late, safe_action, first_bound, EXECUTORS[executor])
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._steps = self._answers = self._too_old = self._failures = self._episode = 0
        self._connections = server.connections
        self._latest: _Seen | None = None
        self._dropped: _Seen | None = None
        self._error: Exception | None = None
        self._bug: Exception | None = None
        self._closed = threading.Event()
        # Guards everything above that changes.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._ask_on, name="videopolicy-driver", daemon=True)
        self._thread.start()

    def act(self, observation: Mapping[str, object], at: float | None = None) -> Step:
        """What to do in this control step; takes at most `bound` (in an episode's first step `first_bound`).

        Args:
            observation: what is seen now, as of `Client.infer`. It is read later, so do not change it afterwards.
            at: when it was seen, by the driver's clock; None for now.

        Raises:
            Stopped: there is no fresh action, and the robot is to stop or has nothing to hold by; in an episode's first
                step, before `first_bound` is over, if what was seen became too old to be sent. Called again, it goes on
                as soon as a fresh action is there.
            WireError, ValueError: the observation cannot be sent, or the actions do not go with the safe one.
        """
        with self._changed:
            if self._closed.is_set():
                raise ValueError("this driver was closed")
            now = self._clock()
            self._steps += 1
            seen = _Seen(observation, now if at is None else at, self._watchdog.taken, self._episode)
            self._latest = seen
            self._changed.notify_all()
            # There is nothing to wait for once what was seen will not be asked about: whoever calls looks again.
            self._changed.wait_for(
                lambda: self._bug or self._closed.is_set() or self._watchdog.left or self._dropped is seen,
                timeout=self._watchdog.wait(now),
            )
            if self._bug:
                raise self._bug
            return self._watchdog.step(self._clock(), self._error)

    def reset(self) -> None:
        """Begins an episode: nothing that was asked for before moves the robot any more.

        Raises:
            ClientError: the server could not be told. It may be tried again.
        """
        with self._changed:
            self._episode += 1
            self._latest = None
            self._watchdog.reset()
        self._server.reset(self._first_bound)

    @property
    def lateness(self) -> Lateness:
        """How late it was, and why."""
        with self._changed:
            return Lateness(
                steps=self._steps,
                held=self._watchdog.held,
                worst=self._watchdog.worst,
                latency=max(self._latencies, default=0.0),
                too_old=self._too_old,
                failures=self._failures,
                reconnections=self._server.connections - self._connections,
                error=self._error,
            )

    def close(self) -> None:
        """Asks for nothing more; what is under way is thrown away. Closing twice is fine."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask_on(self) -> None:
        while not self._closed.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._closed.is_set() or self._wanted())
            if self._closed.is_set():
                return
            try:
                self._ask()
            except ClientError as error:
                with self._changed:
                    self._error = error
                    self._failures += 1
                    self._too_old += isinstance(error, TooOld)
                self._closed.wait(PAUSE)
            except Exception as error:
                # Not the network's fault: the control loop has to hear of it, and cannot go on.
                with self._changed:
                    self._bug = error
                    self._changed.notify_all()
                return

    def _ask(self) -> None:
        # Before the observation is chosen: it would age while the server starts.
        self._server.connect(max(self._timeout, CONNECT_SECONDS))
        with self._changed:
            seen = self._latest
            if seen is None or not self._wanted():
                return
            age = self._clock() - seen.at
            if age > self._max_age:
                self._latest, self._dropped = None, seen
                self._too_old += 1
                self._changed.notify_all()
                return
            message = self._message(seen, age)
        timeout = self._timeout if self._answers else max(self._timeout, self._first_bound)
        asked = self._clock()
        reply = self._server.infer(message, timeout)
        with self._changed:
            self._error = None
            # The first answer may have waited for what no other waits for: the second one's latency replaces it.
            if self._answers == 1:
                self._latencies.clear()
            self._answers += 1
            self._latencies.append(self._clock() - asked)
            if seen.episode == self._episode:
                actions = reply["actions"]
                assert isinstance(actions, np.ndarray)
                self._watchdog.offer(actions[: self._executed()] if self._waits else actions, seen.taken)
            # An observation is not asked about twice.
            if self._latest is seen:
                self._latest = None
            self._changed.notify_all()

    def _wanted(self) -> bool:
        if self._latest is None:
            return False
        return self._watchdog.wants(self._latest.taken, self._lead(), self._executed())

    def _executed(self) -> int | None:
        """Actions of each chunk until the next one is to be there; None for all."""
        told = self._server.metadata.get("execute") if self._execute is None else self._execute
        return told if isinstance(told, int) and told > 0 else None

    def _lead(self) -> int:
        """How many control steps before it is needed a chunk is asked for: as many as an answer takes, rounded up."""
        return 0 if self._waits else math.ceil(max(self._latencies, default=0.0) * self._rate)

    def _message(self, seen: _Seen, age: float) -> Mapping[str, object]:
        """The observation, and what a server of ours is told beside it."""
        if not self._server.extended:
            return seen.observation
        message = dict(seen.observation)
        # Clocks that do not agree are no reason to be refused by a server that does not care.
        if self._server.metadata.get("max_age") is not None:
            message["timestamp"] = time.time() - age
        # What was still to come when this was seen.
        planned = self._watchdog.planned_since(seen.taken)
        if len(planned):
            message["planned"] = planned
            executed = self._watchdog.taken - seen.taken
            message["committed"] = min(executed + self._lead(), len(planned))
        return message
