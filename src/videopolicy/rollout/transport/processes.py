"""Envs' processes on this machine."""

import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from videopolicy.policies.base import PlanRequest
from videopolicy.processes import check_guarded, check_workers, init_child, start
from videopolicy.rollout.results import Result
from videopolicy.rollout.transport.base import LostError
from videopolicy.rollout.workers import EpisodeJob, Failure, Setup, work
from videopolicy.types import Plan

# How long a process may take to close its env.
STOP_SECONDS = 2.0


class ProcessLink:
    """A process and the pipe to it; see `videopolicy.rollout.transport.base.Link`."""

    def __init__(self, setup: Setup) -> None:
        # Spawned, not forked: neither rendering contexts nor torch's threads survive a fork.
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_live, args=(other, setup), daemon=True)
        start(self.process)
        # Only without this copy does the process's end show as the end of the pipe.
        other.close()

    def send(self, message: EpisodeJob | Plan) -> None:
        """See `Link.send`."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)

    def receive(self) -> PlanRequest | Result | Failure:
        """See `Link.receive`."""
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join(STOP_SECONDS)
            check_guarded(self.process.exitcode)
            raise LostError(_ending(self.process.exitcode)) from error


class ProcessSite:
    """One process an env, on this machine; see `videopolicy.rollout.transport.base.Site`.

    Raises:
        UserError: this machine is too small for so many.
    """

    def __init__(self, setup: Setup, workers: int) -> None:
        check_workers(workers)
        self._setup = setup

    def open(self) -> ProcessLink:
        """See `Site.open`."""
        return ProcessLink(self._setup)

    def ready(self, links: Sequence[ProcessLink], seconds: float) -> list[ProcessLink]:
        """See `Site.ready`."""
        ready = wait([link.connection for link in links], seconds)
        return [link for link in links if link.connection in ready]

    def close(self, links: Sequence[ProcessLink]) -> None:
        """See `Site.close`: an idle process ends by itself when its pipe closes, a busy one is killed."""
        # All are told before any is waited for.
        for link in links:
            link.connection.close()
        for link in links:
            link.process.join(STOP_SECONDS)
            link.process.kill()
            link.process.join()


def _live(connection: Connection, setup: Setup) -> None:
    init_child()
    # An end of file means that the main process is gone or done: nobody is left to tell.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        work(connection, setup)


def _ending(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"{name}, often for lack of memory" if name == "SIGKILL" else name
