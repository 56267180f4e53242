"""The main process's side of the worlds' processes: hands out episodes, plans for whoever waits, replaces the dead."""

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from videopolicy.errors import UserError
from videopolicy.policies.base import Planner
from videopolicy.processes import interrupts_held
from videopolicy.rollout.results import Result
from videopolicy.rollout.workers import Failure, Job, Request, Setup, work
from videopolicy.types import Plan

# How long a request for a plan waits for others to share its batch: little beside a plan, enough for a pipe.
GATHER_SECONDS = 0.005
# How long a process may take to close its world.
STOP_SECONDS = 2.0


class DeadWorkerError(Exception):
    """A world's process ended without a word; the message says how."""


class Worker:
    """The main process's end of one world's process."""

    def __init__(self, setup: Setup, job: Job) -> None:
        # Spawned, not forked: neither rendering contexts nor torch's threads survive a fork.
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other, setup), daemon=True)
        with interrupts_held():
            self._process.start()
        # Only without this copy does the process's end show as the end of the pipe.
        other.close()
        self.job = job
        self.send(job)

    def send(self, message: Job | Plan) -> None:
        """Hands over an episode or a plan. If the process is dead, the next `receive` says so."""
        if isinstance(message, Job):
            self.job = message
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)

    def receive(self) -> Request | Result:
        """What the process says next.

        Raises:
            DeadWorkerError: it is dead.
            UserError: the world or the plan is not what it should be.
            RuntimeError: the world failed, with the traceback from its process.
        """
        try:
            message = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise DeadWorkerError(_ending(self._process.exitcode)) from error
        if isinstance(message, Failure):
            raise UserError(message.message) if message.mistake else RuntimeError(message.message)
        return message

    def stop(self) -> None:
        """Ends the process: an idle one ends by itself when its pipe closes, a busy one is killed."""
        self.connection.close()
        self._process.join(STOP_SECONDS)
        self._process.kill()
        self._process.join()


def _ending(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"{name}, often for lack of memory" if name == "SIGKILL" else name


class Crew:
    """Several processes that play episodes, and one planner that plans for all of them.

    Args:
        planner: plans, in this process.
        setup: what is the same for every episode.
        workers: how many processes to keep busy.
    """

    def __init__(self, planner: Planner, setup: Setup, workers: int) -> None:
        self._planner = planner
        self._setup = setup
        self._workers = workers
        self._playing: dict[Connection, Worker] = {}
        self._waiting: dict[Connection, Request] = {}

    def play(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Plays every job once and yields each result as its episode ends.

        Raises:
            UserError: a process died twice in one episode, or what it found is the user's to mend.
            RuntimeError: a world failed.
        """
        todo = deque(jobs)
        try:
            while todo and len(self._playing) < self._workers:
                self._hire(todo.popleft())
            while self._playing:
                ready = self._listen()
                for connection in ready:
                    result = self._hear(connection)
                    if result:
                        yield result
                        self._go_on(connection, todo)
                if self._waiting and not ready:
                    self._plan()
        finally:
            # All are told before any is waited for.
            for connection in self._playing:
                connection.close()
            for worker in self._playing.values():
                worker.stop()

    def _hire(self, job: Job) -> None:
        worker = Worker(self._setup, job)
        self._playing[worker.connection] = worker

    def _go_on(self, connection: Connection, todo: deque[Job]) -> None:
        if todo:
            self._playing[connection].send(todo.popleft())
        else:
            self._playing.pop(connection).stop()

    def _listen(self) -> list[Connection]:
        """Those that have something to say; none if those that wait for a plan have waited long enough."""
        busy = [connection for connection in self._playing if connection not in self._waiting]
        ready = wait(busy, timeout=GATHER_SECONDS if self._waiting else None) if busy else []
        return [connection for connection in busy if connection in ready]

    def _hear(self, connection: Connection) -> Result | None:
        try:
            message = self._playing[connection].receive()
        except DeadWorkerError as death:
            self._hire(_once_more(self._playing.pop(connection).job, death))
            return None
        if isinstance(message, Result):
            return message
        self._waiting[connection] = message
        return None

    def _plan(self) -> None:
        requests = list(self._waiting.values())
        plans = self._planner.plan(
            [request.observation for request in requests],
            [request.seed for request in requests],
            [request.imagine for request in requests],
        )
        for connection, plan in zip(self._waiting, plans, strict=True):
            self._playing[connection].send(plan)
        self._waiting.clear()


def _once_more(job: Job, death: DeadWorkerError) -> Job:
    if job.retries:
        raise UserError(
            f"the process of episode {job.episode} of {job.task} died twice ({death}); the episodes that ended are "
            "kept: the same command goes on from there, perhaps with fewer workers"
        ) from death
    return replace(job, retries=1)
