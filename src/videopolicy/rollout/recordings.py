"""Recorded episodes, written and read back: what was executed beside what was imagined, a folder an episode.

`executed_VIEW.mp4` holds one frame per control step and one more: frame n was seen before action n, the last after the
last action. `imagined_VIEW.mp4` holds the frames of every plan in order, T a plan; frame k of a plan made at step s
shows step s + offsets[k]. `plans.json` says which plan was made when, with what actions, and which were executed; in
the env's own units, and null for one that is no number.
"""

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.images import fit_to_size
from videopolicy.media import read_mp4, write_mp4
from videopolicy.types import Action, Frames, Image, Observation, Plan

AGAIN = "delete the episode's line in results.jsonl, and `videopolicy evaluate` records it again"
# A plan as plans.json has it: its step, its offsets, and its actions if they are there.
Written = tuple[int, tuple[int, ...], Float32[np.ndarray, "A D"] | None]


class Recorder:
    """Collects one episode's frames and plans, then writes them as one folder."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._executed: defaultdict[str, list[Image]] = defaultdict(list)
        self._imagined: defaultdict[str, list[Image]] = defaultdict(list)
        self._plans: list[dict[str, object]] = []
        self._actions: list[Action] = []
        self._observations = 0

    def add_observation(self, observation: Observation) -> None:
        """Adds the observation before the next action; call once more after the last action."""
        for view, image in observation.images.items():
            self._executed[view].append(image)
        self._observations += 1

    def add_plan(self, plan: Plan) -> None:
        """Adds the plan made from the last observation."""
        facts = {"step": self._observations - 1, "offsets": list(plan.offsets), "actions": _plain(plan.actions)}
        self._plans.append(facts)
        for view, frames in (plan.imagined or {}).items():
            self._imagined[view].extend(frames)

    def add_action(self, action: Action) -> None:
        """Adds the action that is about to be executed."""
        self._actions.append(action)

    def write(self, folder: Path, *, task: str, episode: int, instruction: str, success: bool) -> None:
        """Writes everything; the folder appears complete or not at all, and replaces an older one of its name."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            with name_path_in_errors(folder):
                self._fill(aside, {"task": task, "episode": episode, "instruction": instruction, "success": success})
            if folder.exists():
                shutil.rmtree(folder)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _fill(self, folder: Path, facts: dict[str, object]) -> None:
        for kind, videos in (("executed", self._executed), ("imagined", self._imagined)):
            for view, frames in videos.items():
                write_mp4(folder / f"{kind}_{view}.mp4", np.stack(frames), self._fps, full_colour=True)
        facts |= {
            "fps": self._fps,
            "views": list(self._executed),
            "length": self._observations - 1,
            "plans": self._plans,
        }
        facts["actions"] = [row for action in self._actions for row in _plain(action[None])]
        (folder / "plans.json").write_text(json.dumps(facts, allow_nan=False) + "\n", encoding="utf-8")
        folder.chmod(0o755)


def _plain(actions: Float32[np.ndarray, "n D"]) -> list[list[float | None]]:
    """As JSON has them: the shortest digits that give the same float32."""
    return [[float(str(value)) if np.isfinite(value) else None for value in row] for row in actions.astype(np.float32)]


def sweep(recordings: Path) -> None:
    """Removes what a killed run left half written."""
    for leftover in recordings.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)


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
        executed = {view: _sized(folder, frames, imagined.get(view)) for view, frames in executed.items()}
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
        return json.loads(path.read_text(encoding="utf-8"))
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


def _sized(folder: Path, frames: Frames, imagined: Frames | None) -> Frames:
    """The executed frames at the size at which the model imagines; the cameras may be larger."""
    if imagined is None or frames.shape[1:] == imagined.shape[1:]:
        return frames
    height, width = imagined.shape[1:3]
    if height != width:
        raise UserError(
            f"{folder}: imagined frames are {width} x {height} pixels, executed ones {frames.shape[2]} x "
            f"{frames.shape[1]}; only squares can be compared with frames of another size"
        )
    return fit_to_size(frames, height)
