"""The results of an evaluation on disk: one line as each episode ends, so that a killed run loses nothing.

`settings.json` holds what was evaluated, `results.jsonl` one JSON object an episode.
"""

import json
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from videopolicy.configs import LIMITS, from_json, to_json
from videopolicy.durable import sync_open, write_text
from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.progress import say
from videopolicy.rollout.settings import Recorded
from videopolicy.upgrades import upgrade_evaluation, upgrade_result

# How an episode ends. A number that is not finite comes from the env's state or image, or from a plan.
SUCCESS, HORIZON, ENV_NAN, PLAN_NAN = "success", "horizon", "nan from the env", "nan from the policy"
# Its process died, raised an error, or said nothing for too long; each twice.
CRASHED, TIMED_OUT = "crashed", "timed out"
DEATHS = (CRASHED, TIMED_OUT)
# The range of what is counted or measured; see `configs.limited`, which a field without a default cannot use here.
COUNTED = {LIMITS: (0, 2**53)}


@dataclass(frozen=True)
class Result:
    """How one episode went.

    Attributes:
        task: the env's name of the task.
        episode: its number within the task, from 0.
        seed: the seed that the env was reset with.
        success: whether the task was done before the env's horizon.
        steps: control steps executed.
        seconds: wall-clock time, waiting for plans included.
        plans: how many plans were asked for.
        recorded: whether a recording of it was written.
        retries: how often it was begun again because its process died or hung (0 or 1).
        ended: how: SUCCESS, HORIZON, ENV_NAN, PLAN_NAN, CRASHED or TIMED_OUT; "" if an older version wrote it.
    """

    task: str
    episode: int = field(metadata=COUNTED)
    seed: int = field(metadata=COUNTED)
    success: bool
    steps: int = field(metadata=COUNTED)
    seconds: float = field(metadata=COUNTED)
    plans: int = field(metadata=COUNTED)
    recorded: bool
    retries: int = field(default=0, metadata=COUNTED)
    ended: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Result":
        """The result in a line of `results.jsonl`, whatever else the line holds.

        Raises:
            UserError: a value is missing, of another type or out of its range.
        """
        known = [field.name for field in fields(cls)]
        values = upgrade_result(dict(values))
        return from_json(cls, {name: values[name] for name in known if name in values})


@dataclass
class Results:
    """The episodes that have ended, in memory and on disk.

    Attributes:
        folder: where `settings.json` and `results.jsonl` are.
        rows: one entry per episode that has ended, in the order in which they ended.
    """

    folder: Path
    rows: list[Result] = field(default_factory=list)

    @property
    def successes(self) -> int:
        """How many episodes succeeded."""
        return sum(row.success for row in self.rows)

    @property
    def lived(self) -> bool:
        """Whether any episode came to an end that is not the death of its process."""
        return any(row.ended not in DEATHS for row in self.rows)

    @property
    def ended(self) -> set[tuple[str, int]]:
        """(task, episode) of every episode that has ended."""
        return {(row.task, row.episode) for row in self.rows}

    def append(self, result: Result) -> None:
        """Adds one episode; it is on the disk when this returns."""
        path = self.folder / "results.jsonl"
        with name_path_in_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            sync_open(file.fileno(), path)
        self.rows.append(result)


def timeless(rows: Iterable[Result]) -> list[dict[str, Any]]:
    """What must be the same whenever the same evaluation is run again: rows in order, without the time they took."""
    ordered = sorted(rows, key=lambda row: (row.task, row.episode))
    return [{name: value for name, value in asdict(row).items() if name != "seconds"} for row in ordered]


def open_results(folder: Path, settings: Recorded, *, ignore: Set[str] = frozenset()) -> Results:
    """Begins an evaluation in a folder, or goes on with the one that is there.

    Args:
        folder: made if it is missing.
        settings: what is evaluated.
        ignore: settings that may differ from those of the earlier run.

    Raises:
        UserError: the folder holds the results of other settings, or a damaged line before the last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, rows = folder / "settings.json", _read_rows(folder / "results.jsonl")
    # Before the first episode has ended, settings are nobody's yet: a slip in them must not bind the next attempt.
    if not rows:
        _write(path, settings)
    elif not path.exists():
        raise UserError(f"{folder} holds episodes, but no settings.json that says of what; choose another folder")
    else:
        before = _read_settings(path)
        _refuse_others(folder, before, settings, ignore)
        # The folder holds as many as the longest of its runs asked for.
        most = {name: max(getattr(before, name), getattr(settings, name)) for name in ("episodes", "record")}
        if (longest := replace(before, **most)) != before:
            _write(path, longest)
    return Results(folder, rows)


def _write(path: Path, settings: Recorded) -> None:
    write_text(path, json.dumps(to_json(settings), indent=2) + "\n")


def read_evaluation(run: Path) -> tuple[Recorded, list[Result]]:
    """The settings and the ended episodes of an evaluation; writes nothing, so it may be going on.

    Args:
        run: the evaluation's folder, or the run's that holds it as `evaluation`.

    Raises:
        UserError: there is none, no episode has ended, or a file is damaged or tells of an episode in two ways.
    """
    folder = evaluation_folder(run)
    path = folder / "results.jsonl"
    rows = _rows(path, path.read_bytes().rpartition(b"\n")[0])
    if not rows:
        raise UserError(f"{path}: no episode has ended yet; let `videopolicy evaluate` go on")
    return _read_settings(folder / "settings.json"), rows


def evaluation_folder(run: Path) -> Path:
    """The folder of an evaluation, or of the one that a run holds as `evaluation`.

    Raises:
        UserError: there is none.
    """
    for folder in (run, run / "evaluation"):
        if (folder / "settings.json").is_file() and (folder / "results.jsonl").is_file():
            return folder
    raise UserError(f"{run}: holds no evaluation; `videopolicy evaluate` makes one")


def _read_settings(path: Path) -> Recorded:
    try:
        return from_json(Recorded, upgrade_evaluation(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, UserError) as error:
        raise UserError(f"{path} holds no settings of an evaluation ({error}); choose another folder") from error


def _refuse_others(folder: Path, before: Recorded, now: Recorded, ignore: Set[str]) -> None:
    old, new = before.facts(), now.facts()
    differing = [name for name in {**old, **new} if name not in ignore and old.get(name) != new.get(name)]
    if differing:
        changes = "; ".join(f"{name} was {old.get(name)}, now {new.get(name)}" for name in differing)
        raise UserError(f"{folder} holds an evaluation with other settings: {changes}; choose another folder")


def _read_rows(path: Path) -> list[Result]:
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        # Killed while writing: without its end the episode has not ended, and the next line must not join it.
        os.truncate(path, whole)
    return _rows(path, text[:whole])


def _rows(path: Path, text: bytes) -> list[Result]:
    """The episodes in these lines, each once: versions that let two evaluations into one folder wrote some twice.

    Raises:
        UserError: a line is no result, or two lines tell of one episode differently.
    """
    found: dict[tuple[str, int], tuple[int, Result]] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        row = _row(path, number, line)
        before, first = found.setdefault((row.task, row.episode), (number, row))
        if _played(first) != _played(row):
            raise UserError(
                f"{path}: lines {before} and {number} tell of episode {row.episode} of {row.task} differently; delete "
                "one of them, or both to run it again"
            )
    if doubled := len(lines) - len(found):
        say(f"note: {path}: lines that tell of an episode again: {doubled}; each episode counts once")
    return [row for _, row in found.values()]


def _played(row: Result) -> tuple[Any, ...]:
    return row.seed, row.success, row.steps, row.plans, row.ended


def _row(path: Path, number: int, line: bytes) -> Result:
    try:
        return Result.of(from_json(dict[str, Any], json.loads(line)))
    except (ValueError, UserError) as error:
        raise UserError(
            f"{path}, line {number} is no result of an episode ({error}); delete that line to run it again"
        ) from error
