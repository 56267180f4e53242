"""What the main process asks of an env's process, wherever that runs: every message is answered by one."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from videopolicy.policies.base import PlanRequest
from videopolicy.rollout.results import Result
from videopolicy.rollout.workers import EpisodeJob, Failure
from videopolicy.types import Plan


class LostError(Exception):
    """An env's process will not answer any more; the message says how it ended."""


class Link(Protocol):
    """The main process's end of one env's process."""

    def send(self, message: EpisodeJob | Plan) -> None:
        """Hands over an episode or a plan. If the process is dead, the next `receive` says so."""
        ...

    def receive(self) -> PlanRequest | Result | Failure:
        """The answer to what was last sent; waits for it.

        Raises:
            LostError: the process is dead.
        """
        ...


L = TypeVar("L", bound=Link)


class Site(Protocol[L]):
    """Where envs' processes run."""

    def open(self) -> L:
        """Starts one; it does not wait until it stands."""
        ...

    def ready(self, links: Sequence[L], seconds: float) -> list[L]:
        """Those whose answer has come, in the order given; waits for the first one, but no longer than this."""
        ...

    def close(self, links: Sequence[L]) -> None:
        """Ends these, whatever they are doing."""
        ...
