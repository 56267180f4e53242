"""What a run folder holds for the report, apart from the recordings' frames: results, settings, losses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.errors import UserError
from videopolicy.rollout.results import Result

# The name of what was logged -> (steps, values).
Curves = Mapping[str, tuple[Sequence[int], Sequence[float]]]

_EVALUATE = "`videopolicy evaluate` makes it"


@dataclass(frozen=True)
class Run:
    """A run as the report shows it.

    Attributes:
        folder: the run folder.
        results: one entry per episode that has ended; never empty.
        settings: what was evaluated.
        losses: what training logged; empty if it was not trained here.
        validation: what it measured on the episodes held out.
        throughput: how fast it went.
        recordings: the folders of recorded episodes, by (task, episode).
    """

    folder: Path
    results: tuple[Result, ...]
    settings: Mapping[str, Any]
    losses: Curves
    validation: Curves
    throughput: Curves
    recordings: Mapping[tuple[str, int], Path]


def read(folder: Path) -> Run:
    """Reads a run folder; writes nothing, so it may be called while the evaluation goes on.

    Raises:
        UserError: no such folder, no evaluation in it, no episode ended yet, or a file is torn.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give a run folder, as `videopolicy evaluate` writes it")
    evaluation = folder / "evaluation"
    settings, results = evaluation / "settings.json", evaluation / "results.jsonl"
    for path in (evaluation, settings, results):
        if not path.exists():
            raise UserError(f"{path} is missing, so there is nothing to report; {_EVALUATE}")
    rows = tuple(_result(path, number, row) for path, number, row in _lines(results))
    if not rows:
        raise UserError(f"{results}: no episode has ended yet; let `videopolicy evaluate` go on")
    recordings = evaluation / "recordings"
    found = {(r.task, r.episode): recordings / f"{r.task}-{r.episode}" for r in rows if r.recorded}
    losses, validation, throughput = (
        _curves(folder / f"{name}.jsonl") for name in ("losses", "validation", "throughput")
    )
    return Run(folder, rows, _settings(settings), losses, validation, throughput, found)


def _settings(path: Path) -> dict[str, Any]:
    try:
        return _object(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is torn: {error}; {_EVALUATE}") from error


def _object(text: bytes) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError("no JSON object")
    return values


def _lines(path: Path) -> list[tuple[Path, int, dict[str, Any]]]:
    """Every whole line as (path, line number, values); a line without its end is still being written."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            rows.append((path, number, _object(line)))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number} is torn: {error}; delete that line") from error
    return rows


def _result(path: Path, number: int, row: dict[str, Any]) -> Result:
    try:
        return Result.of(row)
    except UserError as error:
        raise UserError(f"{path}, line {number} is no result of an episode: {error}; delete that line") from error


def _curves(path: Path) -> Curves:
    """Every number that training has logged in a file, but for the time."""
    if not path.exists():
        return {}
    # A resumed training repeats the steps after its checkpoint: the later line holds.
    latest: dict[str, dict[int, float]] = {}
    for _, number, row in _lines(path):
        try:
            step = int(row.pop("step"))
            for name, value in row.items():
                if value is not None and name != "seconds":
                    latest.setdefault(name, {})[step] = float(value)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{path}, line {number} is no record of training: {error}; delete that line") from error
    ordered = {name: sorted(values.items()) for name, values in latest.items()}
    return {name: ([step for step, _ in pairs], [value for _, value in pairs]) for name, pairs in ordered.items()}
