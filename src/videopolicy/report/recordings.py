"""A recorded episode as read back: executed frames and actions, and every plan's imagined frames and actions."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image as Pictures

from videopolicy.errors import UserError
from videopolicy.media import read_mp4
from videopolicy.report.similarity import Pair, compare
from videopolicy.types import Frames

AGAIN = "delete the episode's line in results.jsonl, and `videopolicy evaluate` records it again"
# A plan as plans.json has it: its step, its offsets, and its actions if they are there.
Written = tuple[int, tuple[int, ...], Float32[np.ndarray, "A D"] | None]


@dataclass(frozen=True)
class Imagined:
    """What one plan imagined.

    Attributes:
        step: the control step at which the plan was made.
        targets: the control step that each imagined frame speaks of, length T.
        frames: view name -> imagined frames (T, H, W, 3).
        actions: what was to be executed from that step on, NaN where it was no number; None if an older version, which
            recorded no actions, wrote it.
    """

    step: int
    targets: tuple[int, ...]
    frames: Mapping[str, Frames]
    actions: Float32[np.ndarray, "A D"] | None = None


@dataclass(frozen=True)
class Recording:
    """One recorded episode.

    Attributes:
        task: the env's name of the task.
        episode: the episode's number within its task.
        instruction: what was to be done, in words.
        success: whether it was done.
        fps: control steps a second.
        executed: view name -> frames; frame n was seen before action n, the last one after the last action.
        plans: every plan in the order in which they were made; empty if nothing was imagined.
        actions: what was executed, one a control step; None if an older version wrote it.
    """

    task: str
    episode: int
    instruction: str
    success: bool
    fps: float
    executed: Mapping[str, Frames]
    plans: tuple[Imagined, ...]
    actions: Float32[np.ndarray, "N D"] | None = None

    @property
    def length(self) -> int:
        """Executed frames, one more than control steps."""
        return len(next(iter(self.executed.values())))

    def pairs(self, plan: Imagined) -> Iterator[Pair]:
        """Every imagined frame of a plan whose control step was reached, measured in every view."""
        for view, frames in plan.frames.items():
            executed = self.executed[view]
            for target, imagined in zip(plan.targets, frames, strict=True):
                if target < self.length:
                    yield compare(target - plan.step, imagined, executed[target], executed[plan.step])


def load(folder: Path) -> Recording:
    """Reads one folder of `evaluation/recordings`.

    Raises:
        UserError: a file is missing or torn, or the frames do not add up to what `plans.json` says.
    """
    about = _about(folder / "plans.json")
    try:
        views, plans = about["views"], [_plan(plan) for plan in about["plans"]]
        executed = {view: read_mp4(folder / f"executed_{view}.mp4") for view in views}
        # A policy that imagines nothing leaves no such file at all; one of several missing is a torn recording.
        imagines = any(folder.glob("imagined_*.mp4"))
        imagined = {view: read_mp4(folder / f"imagined_{view}.mp4") for view in views} if imagines else {}
        _check(folder, plans, executed, imagined)
        executed = {view: _fit(frames, imagined.get(view)) for view, frames in executed.items()}
        return Recording(
            about["task"],
            int(about["episode"]),
            about["instruction"],
            bool(about["success"]),
            float(about["fps"]),
            executed,
            tuple(_split(plans, imagined)) if imagined else (),
            _actions(about),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'plans.json'}: missing or wrong: {error}; {AGAIN}") from error


def _about(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {AGAIN}") from None
    except ValueError as error:
        raise UserError(f"{path} is torn: {error}; {AGAIN}") from error


def _plan(about: dict[str, Any]) -> Written:
    return int(about["step"]), tuple(about["offsets"]), _actions(about)


def _actions(about: dict[str, Any]) -> Float32[np.ndarray, "n D"] | None:
    actions = np.array(about["actions"], np.float32) if "actions" in about else None
    if actions is not None and actions.size and actions.ndim != 2:
        raise ValueError(f"actions of shape {actions.shape}")
    return actions


def _check(folder: Path, plans: list[Written], executed: dict[str, Frames], imagined: dict[str, Frames]) -> None:
    if not executed:
        raise UserError(f"{folder / 'plans.json'} names no views; {AGAIN}")
    lengths = {view: len(frames) for view, frames in executed.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{folder}: the views have different numbers of executed frames: {lengths}; {AGAIN}")
    length = next(iter(lengths.values()))
    if late := [step for step, _, _ in plans if step >= length]:
        raise UserError(f"{folder}: plans at steps {late} but only {length} executed frames; {AGAIN}")
    wanted = sum(len(offsets) for _, offsets, _ in plans)
    for view, frames in imagined.items():
        if len(frames) != wanted:
            path = folder / f"imagined_{view}.mp4"
            raise UserError(f"{path} has {len(frames)} frames, plans.json speaks of {wanted}; {AGAIN}")


def _split(plans: list[Written], imagined: dict[str, Frames]) -> Iterator[Imagined]:
    start = 0
    for step, offsets, actions in plans:
        end = start + len(offsets)
        if offsets:
            frames = {view: all_frames[start:end] for view, all_frames in imagined.items()}
            yield Imagined(step, tuple(step + offset for offset in offsets), frames, actions)
        start = end


def _fit(frames: Frames, imagined: Frames | None) -> Frames:
    """The executed frames at the size at which the model imagines; the cameras may be larger."""
    if imagined is None or frames.shape[1:] == imagined.shape[1:]:
        return frames
    height, width = imagined.shape[1:3]
    shrink = [Pictures.fromarray(f).resize((width, height), Pictures.Resampling.BOX) for f in frames]
    return np.stack([np.asarray(picture) for picture in shrink])
