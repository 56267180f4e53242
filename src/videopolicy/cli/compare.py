"""Says whether two evaluated policies differ, or only by luck."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from videopolicy.errors import UserError
from videopolicy.rollout.comparison import pair, pooled, table, verdict
from videopolicy.rollout.results import read_evaluation


@dataclass(frozen=True)
class Command:
    """Compare two evaluations episode by episode: success on the same tasks from the same starts.

    The verdict is McNemar's exact test over the episodes that only one of the two solved; the interval of the
    difference is Newcombe's for paired rates.

    Example: videopolicy compare runs/untuned runs/button
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run that was evaluated, or the folder of an evaluation."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The one to compare it with."""

    def run(self) -> None:
        """Prints a row a task and the verdict.

        Raises:
            UserError: no evaluation in a folder, other envs, or no episodes in common.
        """
        read = [read_evaluation(run) for run in (self.first, self.second)]
        envs = [settings.env for settings, _ in read]
        if envs[0] != envs[1]:
            raise UserError(f"{self.first} was evaluated in env {envs[0]!r}, {self.second} in {envs[1]!r}")
        if len({settings.protocol_sha256 for settings, _ in read}) > 1:
            print("note: they were not evaluated by the same protocol: episodes may have been cut at other lengths")
        pairs = pair(*(rows for _, rows in read))
        print(table(pairs))
        everything = pooled(list(pairs.values()))
        for name, (_, rows) in zip(("first", "second"), read, strict=True):
            if len(rows) > everything.n:
                print(f"note: {len(rows) - everything.n} episodes of the {name} have no partner and do not count")
        print(verdict(everything))
