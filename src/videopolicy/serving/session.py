"""What one client is answered: a map with actions, a refusal, or a UserError that ends the connection.

Keys of a message besides those of the style (see `videopolicy.serving.observations`), all of them optional:

| key | what |
|---|---|
| `endpoint` | `infer` (default), or `reset`: a new episode begins |
| `seed` | of the plan's noise, from 0 to 2^63 - 1; by default one of the server's (see `Session`) |
| `timestamp` | when it was seen, in seconds since 1970; too old a one is refused, if the server has a bound |
| `planned`, `committed` | what is left of the plan before, (n, D), and how many of these will be executed in any case |
| `imagine` | true to be sent the imagined video too, if the server does that |

A refusal is a map without actions: `error` is "busy" or "old", and `message` says why in a line. The connection stays.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from time import monotonic

import numpy as np

from videopolicy.client.wire import WireError, unpack
from videopolicy.errors import UserError, unknown
from videopolicy.policies.base import PlanRequest, PolicySpec, derive_seed
from videopolicy.serving.engine import BusyError, Engine, Planned
from videopolicy.serving.limits import ActionLimits
from videopolicy.serving.metrics import Metrics
from videopolicy.serving.observations import Reader, numbers
from videopolicy.serving.page.latest import Latest, Sent
from videopolicy.types import Observation

ENDPOINTS = ("infer", "reset")
SEEDS = 2**63
# Longer messages are read in another thread, so that others are answered meanwhile.
LONG = 2**18
Reply = dict[str, object]


@dataclass(frozen=True)
class Service:
    """What all clients share.

    Attributes:
        engine: plans for them.
        spec: of its policy.
        reader: makes observations of their messages.
        metadata: what each is told first.
        metrics: what is counted.
        limits: what actions are held to; None for nothing.
        seed: of the noise of those that send none.
        max_age: seconds; what was seen longer ago is refused. None for no bound.
        imagine: whether the imagined video is sent to those who ask for it.
        latest: is told what happens, for the page; None if there is none.
    """

    engine: Engine
    spec: PolicySpec
    reader: Reader
    metadata: Mapping[str, object]
    metrics: Metrics = field(default_factory=Metrics)
    limits: ActionLimits | None = None
    seed: int = 0
    max_age: float | None = None
    imagine: bool = False
    latest: Latest | None = None

    def note(self, kind: str, client: int | None = None, words: str = "", times: int = 1) -> None:
        """Counts what has happened (see `metrics.COUNTERS`), and tells it to the page."""
        self.metrics.count(kind, times)
        if self.latest and times:
            self.latest.happened(kind, client, words, times)


class Session:
    """One client's connection.

    Without a seed of its own, request k of episode e (each from 0; `reset` begins the next episode) of connection c
    (from 0, as they come) has the seed `derive_seed("serve", seed, c, e, k)`; the reply names it.

    Args:
        service: what it shares with all others.
        number: c.
    """

    def __init__(self, service: Service, number: int) -> None:
        self._service, self._number = service, number
        self._episode = self._request = 0
        self._last_ms: float | None = None
        self._unsent: Callable[[float], Sent] | None = None

    async def answer(self, data: bytes) -> Reply:
        """The answer to one message.

        Raises:
            UserError: the message is wrong, or its plan could not be made.
        """
        arrived = monotonic()
        message = await _read(data)
        endpoint = message.get("endpoint", "infer")
        if endpoint == "reset":
            self._episode, self._request = self._episode + 1, 0
            if self._service.latest:
                self._service.latest.reset(self._number)
            return {"reset": True}
        if endpoint != "infer":
            raise unknown("endpoint", str(endpoint)[:40], ENDPOINTS)
        request = self._plan_request(message)
        age = self._age(message)
        if age is not None:
            words = f"seen {age:.3f} s ago; {self._service.max_age:g} s are allowed"
            self._service.note("old", self._number, words)
            return {"error": "old", "message": words}
        try:
            future = self._service.engine.ask(self, request)
        except BusyError as error:
            self._service.note("busy", self._number)
            return {"error": "busy", "message": str(error)}
        try:
            planned = await asyncio.wrap_future(future)
        finally:
            # Of a client that is gone; of all others nothing is left to withdraw.
            self._service.engine.withdraw(self)
        self._request += 1
        return self._reply(planned, request, arrived)

    def began(self, address: str) -> None:
        """The client was let in."""
        self._service.note("connections", self._number, address)
        if self._service.latest:
            self._service.latest.connected(self._number, address)

    def ended(self) -> None:
        """The client is gone."""
        if self._service.latest:
            self._service.latest.gone(self._number)

    def failed(self, line: str) -> str:
        """A message was wrong, or could not be answered; the line that says why."""
        self._service.note("errors", self._number, line)
        return line

    def sent(self, seconds: float) -> None:
        """An answer was sent, so long after its request came."""
        self._last_ms = seconds * 1e3
        self._service.metrics.request.add(seconds)
        if self._service.latest and self._unsent:
            self._service.latest.sent(self._number, self._unsent(seconds))
        self._unsent = None

    def _reply(self, planned: Planned, request: PlanRequest, arrived: float) -> Reply:
        metrics, plan, actions = self._service.metrics, planned.plan, planned.plan.actions
        metrics.count("requests")
        metrics.plan.add(planned.seconds)
        timing = {"infer_ms": (monotonic() - arrived) * 1e3, "queue_ms": planned.waited * 1e3}
        if self._last_ms is not None:
            timing["prev_total_ms"] = self._last_ms
        reply: Reply = {
            "policy_timing": {"infer_ms": planned.seconds * 1e3},
            "server_timing": timing,
            "seed": request.seed,
        }
        if self._service.limits:
            actions, limited = self._service.limits.apply(actions)
            reply["limited"] = limited
            self._service.note("limited", self._number, times=limited)
        reply["actions"] = np.ascontiguousarray(actions, dtype=np.float32)
        if plan.imagined is not None:
            reply["imagined"] = {view: np.ascontiguousarray(frames) for view, frames in plan.imagined.items()}
            reply["offsets"] = list(plan.offsets)
        self._unsent = partial(Sent, request, plan, actions, planned.waited, planned.seconds)
        return reply

    def _plan_request(self, message: Mapping[str, object]) -> PlanRequest:
        observation = self._service.reader.read(message)
        imagine = message.get("imagine", False)
        if not isinstance(imagine, bool):
            raise UserError("'imagine' is true or false")
        if imagine and not self._service.imagine:
            raise UserError("this server sends no imagined video; start it with --imagine")
        return PlanRequest(self._with_planned(observation, message), self._seed(message), imagine)

    def _with_planned(self, observation: Observation, message: Mapping[str, object]) -> Observation:
        planned, committed = message.get("planned"), message.get("committed", 0)
        width = self._service.spec.action_width
        if planned is None:
            if committed != 0:
                raise UserError("'committed' counts actions of 'planned', which is missing")
            return observation
        if not isinstance(planned, np.ndarray) or planned.ndim != 2 or planned.shape[1] != width or not len(planned):
            given = planned.shape if isinstance(planned, np.ndarray) else type(planned).__name__
            raise UserError(f"'planned' is {given}; give what is left of the plan before, (n, {width}) float32")
        if type(committed) is not int or not 0 <= committed <= len(planned):
            raise UserError(f"'committed' is a whole number from 0 to {len(planned)}, the actions in 'planned'")
        rows = numbers("planned", planned.reshape(-1)).reshape(planned.shape)
        return Observation(observation.images, observation.instruction, observation.state, rows, committed)

    def _seed(self, message: Mapping[str, object]) -> int:
        seed = message.get("seed")
        if seed is None:
            return derive_seed("serve", self._service.seed, self._number, self._episode, self._request)
        if isinstance(seed, np.integer):
            seed = int(seed)
        if type(seed) is not int or not 0 <= seed < SEEDS:
            raise UserError("'seed' is a whole number from 0 to 2^63 - 1")
        return seed

    def _age(self, message: Mapping[str, object]) -> float | None:
        """How old an observation is that is too old; None if it is not."""
        seen, bound = message.get("timestamp"), self._service.max_age
        if seen is None:
            return None
        if isinstance(seen, np.floating | np.integer):
            seen = float(seen)
        if isinstance(seen, bool) or not isinstance(seen, int | float) or not isfinite(seen) or abs(seen) > SEEDS:
            raise UserError("'timestamp' is a number: seconds since 1970")
        if bound is None:
            return None
        age = time.time() - seen
        if age < -bound:
            raise UserError(f"'timestamp' is {-age:.1f} s ahead of the server's clock; set the clocks alike")
        return age if age > bound else None


async def _read(data: bytes) -> Mapping[str, object]:
    try:
        message = unpack(data) if len(data) <= LONG else await asyncio.to_thread(unpack, data)
    except WireError as error:
        raise UserError(str(error)) from error
    if not isinstance(message, dict):
        raise UserError(f"a message is a map, not {type(message).__name__}")
    return message
