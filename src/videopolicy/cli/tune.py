"""Finds the fastest way to plan on this device that is as good as the checkpoint's own, and gives it a name."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from videopolicy.checkpoint import add_mode, check_mode
from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.configs import check_limits, limited, to_json
from videopolicy.datasets.formats import open_any
from videopolicy.errors import UserError
from videopolicy.ownership import locked, owned
from videopolicy.policies.checkpoint import CheckpointPolicy, Precision, make
from videopolicy.progress import progress_bar
from videopolicy.rollout.protocols import MOST_EPISODES
from videopolicy.rollout.sequential import pairs_to_pass
from videopolicy.tuning.observations import first_observations, recorded_observations
from videopolicy.tuning.search import OBSERVATIONS, Candidate, Search, search
from videopolicy.tuning.success import open_starts
from videopolicy.tuning.text import conclusion, search_table
from videopolicy.types import Observation

EPISODES = 100


@dataclass(frozen=True)
class Command:
    """Find the fastest way to plan on this device whose actions are within a bound of mode exact's, and name it.

    Candidates are samplers, numbers of steps, fewer steps for the video, its deep blocks reused, and, where mode exact
    is guided, no guidance.
    Actions are compared on observations of --data, or on the first ones of --env, from the same noise. With --env and
    --task, those within the bound act from the same starts as mode exact, the fastest first, until it is clear whether
    they are worse; the first that is not is taken. `evaluate --mode fast` then acts by it.

    Example: videopolicy tune runs/button/checkpoint --env metaworld --task button-press-topdown-v3

    Without a simulator: videopolicy tune runs/arm/checkpoint --data data/arm
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The checkpoint folder that training wrote; the mode is written into it."""
    data: Path | None = None
    """Demonstrations whose images the actions are compared on."""
    env: str | None = None
    """The env to act in."""
    task: tuple[str, ...] = ()
    """One or more tasks of the env."""
    episodes: int = limited(EPISODES, 1, MOST_EPISODES)
    """Starts of each task, at most; it stops when it is clear whether a candidate is worse."""
    bound: float = limited(0.05, 0, 2)
    """Mean absolute distance from mode exact's actions that passes; they are normalised to -1 to 1."""
    name: str = "fast"
    """What the mode is called; one of this name is replaced."""
    out: Path | None = None
    """Keep the evaluations here, a folder for each way, and go on with those that it holds; by default nowhere."""
    precision: Precision = "float32"
    """Of the weights in memory."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write what was found to this file too."""

    def run(self) -> None:
        """Searches, prints the table, and writes the mode if one is faster.

        Raises:
            UserError: no such checkpoint, data set, env or task, neither data nor an env, a checkpoint that cannot act,
                or a name that no mode can have.
        """
        self._check()
        choose_threads()
        with ExitStack() as stack:
            if self.json:
                stack.enter_context(owned(self.json, "tune", [self.checkpoint]))
            stack.enter_context(locked(self.checkpoint, "tune"))
            found = self._search()
            print(search_table(found, self.bound))
            if found.chosen:
                add_mode(self.checkpoint, self.name, found.chosen.sampling)
            if self.json:
                write_json(self.json, self._figures(found))
            print(conclusion(found, self.name, self.bound))

    def _check(self) -> None:
        check_limits(self)
        check_mode(self.name)
        if self.data is None and self.env is None:
            raise UserError("on what should actions be compared? Give --data FOLDER, or --env NAME --task TASK")
        if (self.env is None) != (not self.task):
            raise UserError("--env and --task go together: give both, or neither and --data FOLDER")
        starts, fewest = self.episodes * len(self.task), pairs_to_pass()
        if self.env is not None and starts < fewest:
            raise UserError(
                f"{starts} starts can show of no candidate that it is not worse; it takes at least {fewest}"
            )
        if self.out is not None and self.env is None:
            raise UserError("--out is where evaluations go, and without --env there are none; leave it out")

    def _search(self) -> Search:
        policy = make(self.checkpoint, precision=self.precision)
        with open_starts(self.env, self.task, self.checkpoint, self.out, policy, self.episodes) as starts:
            observations = self._observations(policy)
            with progress_bar(desc="tune", unit="", total=0) as bar:
                return search(policy, observations, self.bound, starts, self.episodes, bar)

    def _observations(self, policy: CheckpointPolicy) -> list[Observation]:
        if self.data is not None:
            return recorded_observations(policy, open_any(self.data), OBSERVATIONS)
        return first_observations(policy, self.env or "", self.task, OBSERVATIONS)

    def _figures(self, found: Search) -> dict[str, Any]:
        return {
            "checkpoint": str(self.checkpoint),
            "bound": self.bound,
            "spread": found.spread,
            "exact": _candidate(found.own),
            "tried": [_candidate(one) for one in found.tried],
            "chosen": _candidate(found.chosen) if found.chosen else None,
        }


def _candidate(one: Candidate) -> dict[str, Any]:
    standing = one.standing and one.standing.value
    pairs = one.pairs and asdict(one.pairs)
    return {
        "name": str(one.sampling),
        **vars(one),
        "sampling": to_json(one.sampling),
        "pairs": pairs,
        "standing": standing,
    }
