"""Processes that convert shards. One that dies is an error that says what it was doing."""

import signal
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from videopolicy.datasets.conversion.shard import Segment, ShardJob, write_shard
from videopolicy.errors import UserError, explain_os_error
from videopolicy.processes import init_child, interrupts_held

# How long an idle process may take to end.
_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class _Failure:
    message: str
    mistake: bool


def convert_runs(job: ShardJob, runs: Sequence[Segment], workers: int, tell: Callable[[Segment, int], None]) -> None:
    """Writes the shards of these runs.

    Args:
        job: the conversion.
        runs: which shards.
        workers: processes; a single one is this.
        tell: called with a run and how many of its frames are done.

    Raises:
        UserError: an episode cannot be read, the disk is full, a process died.
        RuntimeError: a process failed, with its traceback.
    """
    if min(workers, len(runs)) > 1:
        _Crew(job, runs, tell).work(min(workers, len(runs)))
        return
    dataset, _ = job.source.open()
    for run in runs:
        write_shard(dataset, job, run, lambda frames, run=run: tell(run, frames))


class _ConversionWorker:
    """This process's end of another one."""

    def __init__(self, job: ShardJob) -> None:
        # Spawned, not forked: PyAV's and pyarrow's threads do not survive a fork.
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, job), daemon=True)
        with interrupts_held():
            self._process.start()
        # Only without this copy does the process's end show as the end of the pipe.
        other.close()
        self.run: Segment | None = None

    def give(self, run: Segment) -> None:
        self.run = run
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(run)

    def ending(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def stop(self, kill: bool) -> None:
        self.connection.close()
        if not kill:
            self._process.join(_STOP_SECONDS)
        self._process.kill()
        self._process.join()


class _Crew:
    def __init__(self, job: ShardJob, runs: Sequence[Segment], tell: Callable[[Segment, int], None]) -> None:
        self._job, self._todo, self._tell = job, deque(runs), tell
        self._workers: dict[Connection, _ConversionWorker] = {}

    def work(self, workers: int) -> None:
        failed = True
        try:
            for _ in range(workers):
                worker = _ConversionWorker(self._job)
                self._workers[worker.connection] = worker
                worker.give(self._todo.popleft())
            while busy := [connection for connection, worker in self._workers.items() if worker.run]:
                ready = wait(busy)
                for connection in busy:
                    if connection in ready:
                        self._hear(self._workers[connection])
            failed = False
        finally:
            for worker in self._workers.values():
                worker.stop(kill=failed)

    def _hear(self, worker: _ConversionWorker) -> None:
        run = worker.run
        assert run is not None
        try:
            said = worker.connection.recv()
        except (EOFError, OSError) as error:
            raise UserError(
                f"the process that converted episodes {run.first} to {run.end - 1} died ({worker.ending()}), often for "
                "lack of memory; the same command goes on from there, perhaps with fewer --workers"
            ) from error
        if isinstance(said, _Failure):
            raise UserError(said.message) if said.mistake else RuntimeError(said.message)
        if said is not None:
            self._tell(run, said)
        elif self._todo:
            worker.give(self._todo.popleft())
        else:
            worker.run = None


def _work(connection: Connection, job: ShardJob) -> None:
    """The other process: converts what it is told until the pipe ends; None says that a run is done."""
    init_child()
    with suppress(BrokenPipeError):
        try:
            dataset, _ = job.source.open()
            while run := _next(connection):
                write_shard(dataset, job, run, connection.send)
                connection.send(None)
        except BrokenPipeError:
            raise
        # Whatever it was: unheard, the main process would wait for ever.
        except Exception as error:
            connection.send(_failure(error))


def _next(connection: Connection) -> Segment | None:
    try:
        return connection.recv()
    except EOFError:
        return None


def _failure(error: Exception) -> _Failure:
    line = error if isinstance(error, UserError) else explain_os_error(error) if isinstance(error, OSError) else None
    return _Failure(str(line), True) if line else _Failure("".join(traceback.format_exception(error)), False)
