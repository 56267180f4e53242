"""The recorded episodes, one at a time: encoded, measured, and then let go, as frames are large."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from videopolicy.progress import progress_bar
from videopolicy.report import compose
from videopolicy.rollout.recordings import Recording, load
from videopolicy.rollout.results import Result
from videopolicy.similarity import Pair, plan_pairs

# Episodes that are on the page as videos, a screen or two; hundreds would make it too large to send or to open.
MOST = 24


@dataclass(frozen=True)
class Strip:
    """One plan of one episode as frames.

    Attributes:
        step: the control step at which the plan was made.
        views: view name -> its columns.
    """

    step: int
    views: Mapping[str, list[compose.Moment]]


@dataclass(frozen=True)
class Shown:
    """What is left of a recorded episode on the page.

    Attributes:
        result: how it went.
        instruction: what was to be done, in words.
        views: the views, from left to right.
        source: the stacked video as a data URI; None beyond the first `MOST` episodes, which are measured alone.
        shape: its height and width; zeros if there is none.
        imagined: whether there is an imagined panel at all.
        pairs: every imagined frame whose control step was reached, measured in every view.
        strip: its liveliest plan, if that was asked for and there is one.
    """

    result: Result
    instruction: str
    views: tuple[str, ...]
    source: str | None
    shape: tuple[int, int]
    imagined: bool
    pairs: tuple[Pair, ...]
    strip: Strip | None


def show(results: tuple[Result, ...], folders: Mapping[tuple[str, int], Path]) -> list[Shown]:
    """Reads every recording, in the order of the page; the first success and the first failure get a strip.

    Raises:
        UserError: a recording is missing or torn.
    """
    shown: list[Shown] = []
    with_strip: set[bool] = set()
    for result in progress_bar(order(results), desc="report", unit="episode", leave=False):
        recording = load(folders[result.task, result.episode])
        episode = _shown(result, recording, strip=result.success not in with_strip, playing=len(shown) < MOST)
        if episode.strip:
            with_strip.add(result.success)
        shown.append(episode)
    return shown


def order(results: tuple[Result, ...]) -> list[Result]:
    """The recorded episodes, taking turns over tasks and outcomes so that the first screen has some of each."""
    groups: dict[tuple[bool, str], list[Result]] = {}
    for result in sorted(results, key=lambda r: (r.task, not r.success, r.episode)):
        if result.recorded:
            groups.setdefault((result.success, result.task), []).append(result)
    turns = chain.from_iterable(zip_longest(*groups.values()))
    return [result for result in turns if result is not None]


def _shown(result: Result, recording: Recording, *, strip: bool, playing: bool) -> Shown:
    frames = compose.stacked(recording) if playing else None
    plan = compose.liveliest(recording) if strip else None
    plans, executed = recording.plans, recording.executed
    return Shown(
        result,
        recording.instruction,
        tuple(executed),
        None if frames is None else compose.mp4_uri(frames, recording.fps),
        (0, 0) if frames is None else (frames.shape[1], frames.shape[2]),
        bool(plans),
        tuple(pair for one in plans for pair in plan_pairs(one.step, one.targets, one.frames, executed)),
        Strip(plan.step, {view: compose.filmstrip(recording, plan, view) for view in executed}) if plan else None,
    )
