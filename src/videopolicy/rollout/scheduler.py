"""The main process's side of the envs' processes: hands out episodes, plans for whoever waits, replaces the dead."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic

from tqdm import tqdm

from videopolicy.errors import UserError
from videopolicy.policies.base import Planner
from videopolicy.rollout.results import CRASHED, DEATHS, TIMED_OUT, Result
from videopolicy.rollout.transport.base import L, LostError, Site
from videopolicy.rollout.workers import EpisodeJob, Failure, Request
from videopolicy.types import Plan

# How long a request for a plan waits for others to share its batch: little beside a plan, enough for a pipe.
GATHER_SECONDS = 0.005
# So many episodes that died twice, and none that lived, mean that the simulator does not work here at all.
HOPELESS = 3


@dataclass(eq=False)
class _Worker(Generic[L]):
    """An env's process, the episode that it plays, and what is known of it meanwhile."""

    link: L
    job: EpisodeJob
    begun: float = 0.0
    told: float = 0.0
    plans: int = 0

    def begin(self, job: EpisodeJob) -> None:
        self.job, self.begun, self.plans = job, time.monotonic(), 0
        self.send(job)

    def send(self, message: EpisodeJob | Plan) -> None:
        self.told = time.monotonic()
        self.link.send(message)

    def lost(self, how: str) -> Result:
        job, seconds = self.job, round(time.monotonic() - self.begun, 3)
        # Nobody is left to say how many steps there were.
        return Result(job.task, job.episode, job.env_seed, False, 0, seconds, self.plans, False, job.retries, how)


class Scheduler(Generic[L]):
    """Several processes that play episodes, and one planner that plans for all of them.

    An episode whose process dies, raises an error or hangs is begun again, once, in a new process. The second time it
    is a failure, and its result says so.

    Args:
        planner: plans, in this process.
        site: where the envs' processes run.
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
        self._active: list[_Worker[L]] = []
        self._waiting: dict[_Worker[L], Request] = {}
        self._dead: list[Result] = []
        self._death = ""

    def play(self, jobs: Iterable[EpisodeJob]) -> Iterator[Result]:
        """Plays every job and yields each result as its episode ends.

        Raises:
            UserError: what a process found is the user's to mend, or every episode so far died.
        """
        todo = deque(jobs)
        try:
            while todo and len(self._active) < self._workers:
                self._hire(todo.popleft())
            while self._active:
                heard = self._listen()
                results = [(worker, self._hear(worker)) for worker in heard]
                results += [(worker, self._lose(worker, TIMED_OUT, "no word")) for worker in self._overdue(heard)]
                for worker, result in results:
                    if result:
                        yield from self._count(result)
                        self._go_on(worker, todo)
                if self._waiting and not heard:
                    self._plan()
            self._give_up(at=1)
        finally:
            self._site.close([worker.link for worker in self._active])

    def _hire(self, job: EpisodeJob) -> None:
        worker = _Worker(self._site.open(), job)
        self._active.append(worker)
        worker.begin(job)

    def _go_on(self, worker: _Worker[L], todo: deque[EpisodeJob]) -> None:
        stands = worker in self._active
        if todo and stands:
            worker.begin(todo.popleft())
        elif todo:
            self._hire(todo.popleft())
        elif stands:
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker[L]) -> None:
        self._active.remove(worker)
        self._site.close([worker.link])

    def _busy(self) -> list[_Worker[L]]:
        return [worker for worker in self._active if worker not in self._waiting]

    def _listen(self) -> list[_Worker[L]]:
        """Those that have answered; none if those that wait for a plan have waited long enough, or somebody hangs."""
        busy = self._busy()
        if not busy:
            return []
        left = max(0.0, min(worker.told for worker in busy) + self._timeout - time.monotonic())
        ready = self._site.ready([worker.link for worker in busy], GATHER_SECONDS if self._waiting else left)
        return [worker for worker in busy if worker.link in ready]

    def _overdue(self, heard: list[_Worker[L]]) -> list[_Worker[L]]:
        last = time.monotonic() - self._timeout
        return [worker for worker in self._busy() if worker not in heard and worker.told <= last]

    def _hear(self, worker: _Worker[L]) -> Result | None:
        try:
            message = worker.link.receive()
        except LostError as error:
            return self._lose(worker, CRASHED, str(error))
        if isinstance(message, Failure) and message.mistake:
            raise UserError(message.message)
        if isinstance(message, Failure):
            return self._lose(worker, CRASHED, message.message)
        if isinstance(message, Result):
            return message
        self._waiting[worker] = message
        return None

    def _lose(self, worker: _Worker[L], how: str, why: str) -> Result | None:
        """Begins the episode again; its result if this was the second time."""
        self._dismiss(worker)
        job = worker.job
        self._death = f"episode {job.episode} of {job.task} {how}: {why.strip().splitlines()[-1]}"
        remedy = "it counts as a failure" if job.retries else "it begins again"
        tqdm.write(f"note: episode {job.episode} of {job.task} {how}; {remedy}: {why}", file=sys.stderr)
        if job.retries:
            return worker.lost(how)
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
        for worker, plan in zip(self._waiting, plans, strict=True):
            worker.plans += 1
            worker.send(plan)
        self._waiting.clear()
