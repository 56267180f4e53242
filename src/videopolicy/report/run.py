"""What a run folder holds for the report, apart from the recordings' frames: results, settings, losses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.configs import from_json
from videopolicy.errors import UserError
from videopolicy.rollout.results import Result, evaluation_folder, read_evaluation
from videopolicy.rollout.settings import Recorded
from videopolicy.upgrades import OLD_LOGS

# The name of what was logged -> (steps, values).
Curves = Mapping[str, tuple[Sequence[int], Sequence[float]]]


@dataclass(frozen=True)
class Run:
    """A run as the report shows it.

    Attributes:
        folder: the run's, or the evaluation's if that is all there is.
        evaluation: the evaluation's.
        results: one entry per episode that has ended; never empty.
        settings: what was evaluated.
        losses: what training logged; empty if it was not trained here.
        validation: what it measured on the episodes held out.
        throughput: how fast it went.
        recordings: the folders of recorded episodes, by (task, episode).
    """

    folder: Path
    evaluation: Path
    results: tuple[Result, ...]
    settings: Recorded
    losses: Curves
    validation: Curves
    throughput: Curves
    recordings: Mapping[tuple[str, int], Path]


def read(folder: Path) -> Run:
    """Reads a run; writes nothing, so it may be called while the evaluation goes on.

    Args:
        folder: a run's that holds an evaluation, or an evaluation's own, of whose training nothing is known.

    Raises:
        UserError: no evaluation in it, no episode ended yet, or a file is torn.
    """
    settings, results = read_evaluation(folder)
    evaluation = evaluation_folder(folder)
    recordings = evaluation / "recordings"
    found = {(r.task, r.episode): recordings / f"{r.task}-{r.episode}" for r in results if r.recorded}
    losses, validation, throughput = (_curves(_log(folder, name)) for name in ("losses", "validation", "throughput"))
    return Run(folder, evaluation, tuple(results), settings, losses, validation, throughput, found)


def _log(folder: Path, name: str) -> Path:
    path, old = folder / f"{name}.jsonl", folder / f"{OLD_LOGS.get(name, name)}.jsonl"
    return path if path.exists() else old


def _curves(path: Path) -> Curves:
    """Every number that training has logged in a file, but for the time."""
    if not path.exists():
        return {}
    # A resumed training repeats the steps after its checkpoint: the later line holds.
    latest: dict[str, dict[int, float]] = {}
    # A line without its end is still being written.
    whole = path.read_bytes().rpartition(b"\n")[0]
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = from_json(dict[str, Any], json.loads(line))
            step = from_json(int, row.pop("step", None), "step")
            for name, value in from_json(dict[str, float | None], row).items():
                if value is not None and name != "seconds":
                    latest.setdefault(name, {})[step] = value
        except (ValueError, UserError) as error:
            raise UserError(f"{path}, line {number} is no record of training: {error}; delete that line") from error
    ordered = {name: sorted(values.items()) for name, values in latest.items()}
    return {name: ([step for step, _ in pairs], [value for _, value in pairs]) for name, pairs in ordered.items()}
