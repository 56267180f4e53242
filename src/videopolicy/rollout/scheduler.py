"""The main process's side of the envs' processes: hands out episodes, has plans made for them, replaces the dead."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Generic

from videopolicy.errors import UserError
from videopolicy.policies.base import Policy
from videopolicy.policies.batching import Batcher
from videopolicy.progress import say
from videopolicy.rollout.results import CRASHED, DEATHS, TIMED_OUT, Result
from videopolicy.rollout.transport.base import L, LostError, Site
from videopolicy.rollout.workers import EpisodeJob, Failure
from videopolicy.types import Plan

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
        self.job, self.begun, self.plans = job, monotonic(), 0
        self.send(job)

    def send(self, message: EpisodeJob | Plan) -> None:
        self.told = monotonic()
        self.link.send(message)

    def lost(self, how: str) -> Result:
        job, seconds = self.job, round(monotonic() - self.begun, 3)
        # Nobody is left to say how many steps there were.
        return Result(job.task, job.episode, job.env_seed, False, 0, seconds, self.plans, False, job.retries, how)


class Scheduler(Generic[L]):
    """Several processes that play episodes, and one policy that plans for all of them.

    An episode whose process dies, raises an error or hangs is begun again, once, in a new process. The second time it
    is a failure, and its result says so.

    Args:
        policy: plans, for all of them in batches.
        site: where the envs' processes run.
        workers: how many of them to keep busy.
        timeout: seconds without an answer after which a process is given up.
        lived: whether an episode has come to its own end here before.
    """

    def __init__(self, policy: Policy, site: Site[L], workers: int, timeout: float, *, lived: bool = False) -> None:
        self._site = site
        self._workers = workers
        self._timeout = timeout
        self._lived = lived
        self._active: list[_Worker[L]] = []
        self._batcher = Batcher[_Worker[L]](policy)
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
                if self._batcher and (not self._busy() or not self._batcher.seconds_left):
                    self._answer()
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
        return [worker for worker in self._active if worker not in self._batcher]

    def _listen(self) -> list[_Worker[L]]:
        """Those that have answered; none if a batch is due before anybody does, or somebody hangs."""
        busy = self._busy()
        if not busy:
            return []
        left = max(0.0, min(worker.told for worker in busy) + self._timeout - monotonic())
        wait = self._batcher.seconds_left if self._batcher else left
        ready = self._site.ready([worker.link for worker in busy], wait)
        return [worker for worker in busy if worker.link in ready]

    def _overdue(self, heard: list[_Worker[L]]) -> list[_Worker[L]]:
        last = monotonic() - self._timeout
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
        self._batcher.add(worker, message)
        return None

    def _lose(self, worker: _Worker[L], how: str, why: str) -> Result | None:
        """Begins the episode again; its result if this was the second time."""
        self._dismiss(worker)
        job = worker.job
        self._death = f"episode {job.episode} of {job.task} {how}: {why.strip().splitlines()[-1]}"
        remedy = "it counts as a failure" if job.retries else "it begins again"
        say(f"note: episode {job.episode} of {job.task} {how}; {remedy}: {why}")
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

    def _answer(self) -> None:
        for worker, plan in self._batcher.plan():
            worker.plans += 1
            worker.send(plan)
