"""Sorts failures: was the imagined video wrong, or the actions?

The limits come from the episodes that succeeded, so that the sorting asks: in what is this failure unlike them?
What changes in the course of an episode is compared over the same control steps of every episode.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from videopolicy.diagnosis.measures import Measured, Parts, summary

VIDEO, ACTIONS, UNCLEAR = "video wrong", "actions wrong", "unclear"
# Share of the successes that a limit lets pass.
PASS = 0.9
# With fewer successes of a task, its failures are not sorted.
FEWEST = 5
# A plan's video leads on if by its end so large a share of the control steps it reaches ahead is won.
LEADS = 0.5
# Why, as a reader is told.
NOT_THERE = "the video does not reach the goal"
DEPARTS = "the robot moves as told, but not as imagined"
DISAGREE = "the actions are not those of the video"
NOT_FOLLOWING = "the robot does not move as told"
LOOKS_DONE = "it looks done"
UNREMARKABLE = "nothing sets it apart from a success"


@dataclass(frozen=True)
class Limits:
    """What `PASS` of the successes keep to.

    Attributes:
        shared: control steps that every episode of the task lived through: disagreement, floor and skill are over them,
            as all three change in the course of an episode, and failures last longer.
        steps: control steps that the slowest success took: until then a plan may reach the goal, or lead on.
        executed: distance of the last executed frame to a demonstration's end, at most: then it looks done.
        imagined: the same of the nearest imagined frame; more, as what is imagined is less sharp.
        disagreement: of the plans' actions and their video, at most.
        floor: of executed actions and executed frames, at most.
        skill: at least.
        successes: how many episodes set the limits.
    """

    shared: int
    steps: int
    executed: float
    imagined: float
    disagreement: float
    floor: float
    skill: float
    successes: int


@dataclass(frozen=True)
class Sorted:
    """Where a failure belongs, and why."""

    kind: str
    reason: str


def limits(episodes: Sequence[Measured], task: str, shared: int) -> Limits | None:
    """The limits of a task; None if fewer than `FEWEST` of its episodes succeeded.

    Args:
        episodes: of all tasks.
        task: whose limits.
        shared: control steps that every episode of the task lived through.
    """
    used = [one for one in episodes if one.success and one.task == task]
    if len(used) < FEWEST:
        return None
    first = [summary(one.until(shared)) for one in used]
    return Limits(
        shared=shared,
        steps=max(one.steps for one in used),
        executed=_quantile([one.distance for one in used], PASS, 0),
        imagined=_quantile([_nearest(one.parts) for one in used], PASS, 0),
        disagreement=_quantile([one.disagreement for one in first], PASS, np.inf),
        floor=_quantile([one.floor for one in first], PASS, np.inf),
        skill=_quantile([one.skill for one in first], 1 - PASS, -np.inf),
        successes=len(used),
    )


def _quantile(values: Sequence[float | None], share: float, otherwise: float) -> float:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, share)) if known else otherwise


def _nearest(parts: Sequence[Parts]) -> float:
    return min(part.distance for part in parts)


def done(measured: Measured, found: Limits) -> bool:
    """Whether the last executed frame looks like the end of a demonstration."""
    return measured.distance <= found.executed


def reaches(measured: Measured, found: Limits) -> bool:
    """Whether any video imagined in the time that successes take shows something like the end of a demonstration."""
    return _nearest(measured.before(found.steps)) <= found.imagined


def leads(measured: Measured, found: Limits) -> bool:
    """Whether most videos imagined in that time lead on as demonstrations do: to frames from which less is to go."""
    parts = measured.before(found.steps)
    won = [part.remaining[0] - min(part.remaining[1:]) >= LEADS * part.horizon for part in parts]
    return 2 * sum(won) >= len(won)


Judge = Callable[[Measured, Limits], bool]
# What each judge says of the episodes that it lets pass.
JUDGES: dict[str, Judge] = {
    "the last frame looks done": done,
    "a video reaches the goal": reaches,
    "most videos lead on": leads,
}


def sort(measured: Measured, found: Limits, telling: Collection[Judge]) -> Sorted:
    """Sorts one failure.

    A plan reaches ahead only so far: where other actions than the video's lead astray, it may never come near enough to
    the goal to show it. Such a video is not blamed as long as it leads on.

    Args:
        measured: the failure.
        found: the limits of its task.
        telling: the judges that tell successes from failures; without the others nothing looks done, and no video is
            blamed for what they say.
    """
    judged = summary(measured.until(found.shared))
    disagrees = (judged.disagreement or 0) > found.disagreement
    if done in telling and done(measured, found):
        return Sorted(UNCLEAR, LOOKS_DONE)
    if reaches in telling and not reaches(measured, found):
        astray = leads in telling and not leads(measured, found)
        if astray or not disagrees:
            return Sorted(VIDEO, NOT_THERE)
    if (judged.floor or 0) > found.floor:
        return Sorted(ACTIONS, NOT_FOLLOWING)
    if disagrees:
        return Sorted(ACTIONS, DISAGREE)
    if judged.skill is not None and judged.skill < found.skill:
        return Sorted(VIDEO, DEPARTS)
    return Sorted(UNCLEAR, UNREMARKABLE)
