"""The main process's side of the worlds' processes: hands out episodes, plans for whoever waits, replaces the dead."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic

from tqdm import tqdm

from videopolicy.errors import UserError
from videopolicy.policies.base import Planner
from videopolicy.rollout.links import L, LostError, Site
from videopolicy.rollout.results import CRASHED, DEATHS, TIMED_OUT, Result
from videopolicy.rollout.workers import Failure, Job, Request
from videopolicy.types import Plan

# How long a request for a plan waits for others to share its batch: little beside a plan, enough for a pipe.
GATHER_SECONDS = 0.005
# So many episodes that died twice, and none that lived, mean that the simulator does not work here at all.
HOPELESS = 3


@dataclass(eq=False)
class _Player(Generic[L]):
    """A world's process, the episode that it plays, and what is known of it meanwhile."""

    link: L
    job: Job
    begun: float = 0.0
    told: float = 0.0
    plans: int = 0

    def begin(self, job: Job) -> None:
        self.job, self.begun, self.plans = job, time.monotonic(), 0
        self.tell(job)

    def tell(self, message: Job | Plan) -> None:
        self.told = time.monotonic()
        self.link.send(message)

    def died(self, how: str) -> Result:
        job, seconds = self.job, round(time.monotonic() - self.begun, 3)
        # Nobody is left to say how many steps there were.
        return Result(job.task, job.episode, job.world_seed, False, 0, seconds, self.plans, False, job.retries, how)


class Crew(Generic[L]):
    """Several processes that play episodes, and one planner that plans for all of them.

    An episode whose process dies, raises an error or hangs is begun again, once, in a new process. The second time it
    is a failure, and its result says so.

    Args:
        planner: plans, in this process.
        site: where the worlds' processes run.
        workers: how many of them to keep busy.
        timeout: seconds without an answer after which a process is given up.
        lived: whether an episode has come to its own end here before.
    """

    def __init__(self, planner: Planner, site: Site[L], workers: int, timeout: float, *, lived: bool = False) -> None:
        self._planner = planner
        self._site = site
        self._workers = workers
        self._timeout = timeout
        self._lived = lived
        self._players: list[_Player[L]] = []
        self._waiting: dict[_Player[L], Request] = {}
        self._dead: list[Result] = []
        self._death = ""

    def play(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Plays every job and yields each result as its episode ends.

        Raises:
            UserError: what a process found is the user's to mend, or every episode so far died.
        """
        todo = deque(jobs)
        try:
            while todo and len(self._players) < self._workers:
                self._hire(todo.popleft())
            while self._players:
                heard = self._listen()
                results = [(player, self._hear(player)) for player in heard]
                results += [(player, self._lose(player, TIMED_OUT, "no word")) for player in self._overdue(heard)]
                for player, result in results:
                    if result:
                        yield from self._count(result)
                        self._go_on(player, todo)
                if self._waiting and not heard:
                    self._plan()
            self._give_up(at=1)
        finally:
            self._site.close([player.link for player in self._players])

    def _hire(self, job: Job) -> None:
        player = _Player(self._site.open(), job)
        self._players.append(player)
        player.begin(job)

    def _go_on(self, player: _Player[L], todo: deque[Job]) -> None:
        stands = player in self._players
        if todo and stands:
            player.begin(todo.popleft())
        elif todo:
            self._hire(todo.popleft())
        elif stands:
            self._dismiss(player)

    def _dismiss(self, player: _Player[L]) -> None:
        self._players.remove(player)
        self._site.close([player.link])

    def _busy(self) -> list[_Player[L]]:
        return [player for player in self._players if player not in self._waiting]

    def _listen(self) -> list[_Player[L]]:
        """Those that have answered; none if those that wait for a plan have waited long enough, or somebody hangs."""
        busy = self._busy()
        if not busy:
            return []
        left = max(0.0, min(player.told for player in busy) + self._timeout - time.monotonic())
        ready = self._site.ready([player.link for player in busy], GATHER_SECONDS if self._waiting else left)
        return [player for player in busy if player.link in ready]

    def _overdue(self, heard: list[_Player[L]]) -> list[_Player[L]]:
        last = time.monotonic() - self._timeout
        return [player for player in self._busy() if player not in heard and player.told <= last]

    def _hear(self, player: _Player[L]) -> Result | None:
        try:
            message = player.link.receive()
        except LostError as error:
            return self._lose(player, CRASHED, str(error))
        if isinstance(message, Failure) and message.mistake:
            raise UserError(message.message)
        if isinstance(message, Failure):
            return self._lose(player, CRASHED, message.message)
        if isinstance(message, Result):
            return message
        self._waiting[player] = message
        return None

    def _lose(self, player: _Player[L], how: str, why: str) -> Result | None:
        """Begins the episode again; its result if this was the second time."""
        self._dismiss(player)
        job = player.job
        self._death = f"episode {job.episode} of {job.task} {how}: {why.strip().splitlines()[-1]}"
        remedy = "it counts as a failure" if job.retries else "it begins again"
        tqdm.write(f"note: episode {job.episode} of {job.task} {how}; {remedy}: {why}", file=sys.stderr)
        if job.retries:
            return player.died(how)
        self._hire(replace(job, retries=1))
        return None

    def _count(self, result: Result) -> Iterator[Result]:
        """Passes results on; the dead only once an episode has lived, as otherwise the machine may be to blame."""
        self._lived = self._lived or result.ended not in DEATHS
        self._dead.append(result)
        if self._lived:
            yield from self._dead
            self._dead.clear()
        self._give_up(at=HOPELESS)

    def _give_up(self, at: int) -> None:
        if len(self._dead) >= at:
            raise UserError(
                f"every episode so far died twice; the last, {self._death}; none of them counts: mend that (fewer "
                "workers need less memory), then give the same command again"
            )

    def _plan(self) -> None:
        requests = list(self._waiting.values())
        plans = self._planner.plan(
            [request.observation for request in requests],
            [request.seed for request in requests],
            [request.imagine for request in requests],
        )
        for player, plan in zip(self._waiting, plans, strict=True):
            player.plans += 1
            player.tell(plan)
        self._waiting.clear()
