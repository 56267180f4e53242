"""Diagnoses an evaluation: is success tied to the video, and are failures the video's or the actions'?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from videopolicy.datasets.base import SAME_RATE, Dataset
from videopolicy.diagnosis import demonstrations
from videopolicy.diagnosis.association import Association, Group, associate
from videopolicy.diagnosis.goal import Goal
from videopolicy.diagnosis.inverse import Trust, fit
from videopolicy.diagnosis.measures import Instruments, Measured, Summary, compared, measure, summary
from videopolicy.diagnosis.sorting import JUDGES, Judge, Limits, Sorted, limits, sort
from videopolicy.errors import UserError
from videopolicy.progress import progress_bar
from videopolicy.rollout.recordings import Recording, load
from videopolicy.rollout.results import HORIZON, SUCCESS, Result

# What may be tied to success: the first three compare frames, the others actions.
MEASURES = ("psnr", "ssim", "skill", "disagreement", "floor")
# Over the control steps that all recorded episodes of a task lived through, and over all of each.
SHARED, WHOLE = "shared", "whole"
AGAIN = "evaluate again, into another --out, with --record as large as --episodes"
_SEED = 0


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        episodes: every recorded episode, measured.
        trust: how well the inverse dynamics read demonstrations they were not trained on.
        shared: task -> the control steps that all of its recorded episodes lived through.
        associations: window -> measure -> task, or "" for all within tasks -> its association with success.
        limits: task -> what most of its successes keep to; None if too few of its episodes succeeded.
        notes: what a reader must know.
    """

    episodes: tuple[Measured, ...]
    trust: Trust
    shared: Mapping[str, int]
    associations: Mapping[str, Mapping[str, Mapping[str, Association | None]]]
    limits: Mapping[str, Limits | None]
    notes: tuple[str, ...]

    def summary(self, one: Measured, window: str) -> Summary:
        """The measures of an episode in a window."""
        return summary(one.until(self.shared[one.task]) if window == SHARED else one.parts)

    def sorted(self, one: Measured) -> Sorted | None:
        """Where a failure belongs; None for a success, and where too few episodes of the task succeeded to tell."""
        found = self.limits[one.task]
        return None if one.success or found is None else sort(one, found, self.telling)

    @cached_property
    def telling(self) -> tuple[Judge, ...]:
        """The judges that let pass a larger share of the successes than of the failures; the others tell nothing."""
        shares = [(judge, self.share(True, judge), self.share(False, judge)) for judge in JUDGES.values()]
        return tuple(judge for judge, won, lost in shares if won is not None and won > (lost or 0))

    def share(self, success: bool, judge: Judge) -> float | None:
        """The share of the successes, or of the failures, that a judge lets pass; of the tasks with limits."""
        limits = [(one, self.limits[one.task]) for one in self.episodes if one.success == success]
        passed = [judge(one, found) for one, found in limits if found]
        return float(np.mean(passed)) if passed else None

    def to_json(self) -> dict[str, Any]:
        """Everything, with every episode's numbers, in JSON types."""
        trust = {
            "error": self.trust.error,
            "constant_prediction": self.trust.constant,
            "explained": [None if np.isnan(value) else float(value) for value in self.trust.explained],
            "compared_dimensions": self.trust.readable.tolist(),
        }
        shares = {
            name: {
                "successes": self.share(True, judge),
                "failures": self.share(False, judge),
                "tells": judge in self.telling,
            }
            for name, judge in JUDGES.items()
        }
        counts = Counter(found.kind for one in self.episodes if (found := self.sorted(one)))
        ties = {
            window: {
                measure: {task or "all, within tasks": found and asdict(found) for task, found in tasks.items()}
                for measure, tasks in measures.items()
            }
            for window, measures in self.associations.items()
        }
        return {
            "notes": list(self.notes),
            "inverse_dynamics": trust,
            "shared_steps": dict(self.shared),
            "associations": ties,
            "limits": {task: found and _finite(asdict(found)) for task, found in self.limits.items()},
            "judges": shares,
            "failures": dict(counts),
            "failures_not_sorted": sum(not one.success for one in self.episodes) - counts.total(),
            "episodes": [self._episode(one) for one in self.episodes],
        }

    def _episode(self, one: Measured) -> dict[str, Any]:
        found, limit = self.sorted(one), self.limits[one.task]
        return {
            "task": one.task,
            "episode": one.episode,
            "success": one.success,
            "steps": one.steps,
            **{window: asdict(self.summary(one, window)) for window in (SHARED, WHOLE)},
            "judges": {name: judge(one, limit) for name, judge in JUDGES.items()} if limit else {},
            "distance_at_the_end": one.distance,
            "sorted": found and asdict(found),
            "plans": [asdict(part) for part in one.parts],
        }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def diagnose(folder: Path, rows: Sequence[Result], dataset: Dataset) -> Diagnosis:
    """Diagnoses an evaluation from its recordings.

    Args:
        folder: the evaluation's, with `recordings` in it.
        rows: its results.
        dataset: successful demonstrations of the same tasks, with actions of the same kind.

    Raises:
        UserError: nothing was recorded, or no video of the future, or no actions; or the data do not fit.
    """
    lived = [row for row in rows if row.ended in (SUCCESS, HORIZON, "")]
    recorded = [row for row in lived if row.recorded]
    if not recorded:
        raise UserError(f"{folder}: no episode was recorded; {AGAIN}")
    paths = {row: folder / "recordings" / f"{row.task}-{row.episode}" for row in recorded}
    # Only an episode of several plans says how far apart they are.
    longest = max(recorded, key=lambda row: row.plans)
    example = load(paths[longest])
    gaps, width = _facts(example, paths[longest])
    if not isclose(dataset.fps, example.fps, rel_tol=SAME_RATE):
        raise UserError(
            f"{dataset.path}: {dataset.fps:g} control steps a second, but {example.fps:g} in {folder}; "
            "give demonstrations at the rate of the evaluation"
        )
    space, shown = demonstrations.read(dataset, tuple(example.executed))
    if dataset.action_width != width:
        raise UserError(f"{dataset.path}: actions {dataset.action_width} wide, but {width} wide in {folder}")
    reader, trust = fit(shown, gaps, _SEED)
    episodes, instruments = [], {}
    for row in progress_bar(recorded, desc="episodes", unit="episode"):
        recording = load(paths[row])
        _facts(recording, paths[row])
        if row.task not in instruments:
            goal = Goal(demonstrations.of_task(shown, row.task, recording.instruction))
            instruments[row.task] = Instruments(space, reader, trust.readable, goal)
        episodes.append(measure(recording, instruments[row.task]))
    return conclude(episodes, trust, _notes(rows, lived, trust))


def conclude(episodes: Sequence[Measured], trust: Trust, notes: Sequence[str] = ()) -> Diagnosis:
    """What measured episodes say together."""
    tasks = tuple(dict.fromkeys(one.task for one in episodes))
    shared = {task: min(one.steps for one in episodes if one.task == task) for task in tasks}
    found = {task: limits(episodes, task, shared[task]) for task in tasks}
    bare = Diagnosis(tuple(episodes), trust, shared, {}, found, tuple(notes))
    ties = {window: {name: _ties(bare, window, name, tasks) for name in MEASURES} for window in (SHARED, WHOLE)}
    return Diagnosis(bare.episodes, trust, shared, ties, found, bare.notes)


def _ties(diagnosis: Diagnosis, window: str, name: str, tasks: Sequence[str]) -> dict[str, Association | None]:
    groups = {}
    for task in tasks:
        known = [
            (getattr(diagnosis.summary(one, window), name), one.success)
            for one in diagnosis.episodes
            if one.task == task
        ]
        values = [(value, success) for value, success in known if value is not None]
        groups[task] = Group(np.array([v for v, _ in values]), np.array([s for _, s in values], bool))
    generator = np.random.default_rng(_SEED)
    return {"": associate(list(groups.values()), generator)} | {
        task: associate([group], generator) for task, group in groups.items()
    }


def _facts(recording: Recording, path: Path) -> tuple[list[int], int]:
    """The control steps between a plan's frames that are compared, and the width of an action."""
    offsets = [target - recording.plans[0].step for target in recording.plans[0].targets] if recording.plans else []
    if not offsets or min(offsets) < 1:
        raise UserError(f"{path}: its plans hold no video of the future; only a policy that imagines can be diagnosed")
    if recording.actions is None or not recording.actions.size:
        raise UserError(f"{path}: an older version recorded it, without actions; {AGAIN}")
    near = offsets[: compared(recording)]
    return sorted({int(gap) for gap in np.diff([0, *near])}), recording.actions.shape[1]


def _notes(rows: Sequence[Result], lived: Sequence[Result], trust: Trust) -> list[str]:
    notes = []
    if gone := len(rows) - len(lived):
        notes.append(f"{gone} episodes did not come to an end of their own and are left out")
    if missing := sum(not row.recorded for row in lived):
        notes.append(f"{missing} successes were not recorded and are left out; to have them, {AGAIN}")
    if not trust.readable.size:
        notes.append("no dimension of the action can be read from frames: actions are not compared with the video")
    return notes
