"""Recorded episodes, written and read back: what was executed beside what was imagined, a folder an episode.

`executed_VIEW.mp4` holds one frame per control step and one more: frame n was seen before action n, the last after the
last action. `imagined_VIEW.mp4` holds the frames of every plan in order, T a plan; frame k of a plan made at step s
shows step s + offsets[k]. `plans.json` says which plan was made when, with what actions, and which were executed; in
the env's own units, and null for one that is no number.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from jaxtyping import Float32

from videopolicy.configs import from_json, limited, to_json
from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.images import fit_to_size
from videopolicy.media import read_mp4, write_mp4
from videopolicy.types import Action, Frames, Image, Observation, Plan

AGAIN = "delete the episode's line in results.jsonl, and `videopolicy evaluate` records it again"
MOST = 10**9
# Actions as plans.json has them, null for what is no number.
Rows = tuple[tuple[float | None, ...], ...]
# A plan as it is read: its step, its offsets, and its actions if they are there.
ReadPlan = tuple[int, tuple[int, ...], Float32[np.ndarray, "A D"] | None]


@dataclass(frozen=True)
class WrittenPlan:
    """A plan in `plans.json`.

    Attributes:
        step: the control step at which it was made.
        offsets: of the frames that it imagined, in control steps from there.
        actions: what was to be executed; None if an older version, which recorded no actions, wrote it.
    """

    step: int = limited(MISSING, 0, MOST)
    offsets: tuple[int, ...] = limited(MISSING, 0, MOST)
    actions: Rows | None = None


@dataclass(frozen=True)
class Written:
    """What `plans.json` holds.

    Attributes:
        task: the env's name of the task.
        instruction: what was to be done, in words.
        success: whether it was done.
        views: of which there are videos.
        plans: every plan, in the order in which they were made.
        episode: the episode's number within its task.
        fps: control steps a second.
        length: control steps executed.
        actions: what was executed; None if an older version wrote it.
    """

    task: str
    instruction: str
    success: bool
    views: tuple[str, ...]
    plans: tuple[WrittenPlan, ...]
    episode: int = limited(MISSING, 0, MOST)
    fps: float = limited(MISSING, 0.001, MOST)
    length: int = limited(MISSING, 0, MOST)
    actions: Rows | None = None


class Recorder:
    """Collects one episode's frames and plans, then writes them as one folder."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._executed: defaultdict[str, list[Image]] = defaultdict(list)
        self._imagined: defaultdict[str, list[Image]] = defaultdict(list)
        self._plans: list[WrittenPlan] = []
        self._actions: list[Action] = []
        self._observations = 0

    @property
    def actions(self) -> list[Action]:
        """Those that were executed."""
        return self._actions

    def add_observation(self, observation: Observation | None) -> None:
        """Adds the observation before the next action; call once more after the last action.

        Args:
            observation: None if nobody looks yet; then all of them are shown once the episode has ended.
        """
        self._observations += 1
        if observation:
            self.show(observation)

    def show(self, observation: Observation) -> None:
        """Adds what was seen before the next action of which nothing is shown yet."""
        for view, image in observation.images.items():
            self._executed[view].append(image)

    def add_plan(self, plan: Plan) -> None:
        """Adds the plan made from the last observation."""
        self._plans.append(WrittenPlan(self._observations - 1, tuple(plan.offsets), _plain(plan.actions)))
        for view, frames in (plan.imagined or {}).items():
            self._imagined[view].extend(frames)

    def add_action(self, action: Action) -> None:
        """Adds the action that is about to be executed."""
        self._actions.append(action)

    def write(self, folder: Path, *, task: str, episode: int, instruction: str, success: bool) -> None:
        """Writes everything; the folder appears complete or not at all, and replaces an older one of its name."""
        about = Written(
            task=task,
            episode=episode,
            instruction=instruction,
            success=success,
            fps=self._fps,
            views=tuple(self._executed),
            length=self._observations - 1,
            plans=tuple(self._plans),
            actions=tuple(row for action in self._actions for row in _plain(action[None])),
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Also of machines that share a disk, only one writes here.
        aside = folder.with_name(f".{folder.name}-{uuid4().hex}")
        aside.mkdir()
        try:
            with name_path_in_errors(folder):
                self._fill(aside, about)
            if folder.exists():
                shutil.rmtree(folder)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _fill(self, folder: Path, about: Written) -> None:
        for kind, videos in (("executed", self._executed), ("imagined", self._imagined)):
            for view, frames in videos.items():
                write_mp4(folder / f"{kind}_{view}.mp4", np.stack(frames), self._fps, full_colour=True)
        (folder / "plans.json").write_text(json.dumps(to_json(about), allow_nan=False) + "\n", encoding="utf-8")


def _plain(actions: Float32[np.ndarray, "n D"]) -> Rows:
    """As JSON has them: the shortest digits that give the same float32."""
    rows = actions.astype(np.float32)
    return tuple(tuple(float(str(value)) if np.isfinite(value) else None for value in row) for row in rows)


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
    about = _read(folder / "plans.json")
    plans = [(plan.step, plan.offsets, _actions(folder, plan.actions)) for plan in about.plans]
    executed = {view: read_mp4(folder / f"executed_{view}.mp4") for view in about.views}
    # A policy that imagines nothing leaves no such file at all; one of several missing is a torn recording.
    imagines = any(folder.glob("imagined_*.mp4"))
    imagined = {view: read_mp4(folder / f"imagined_{view}.mp4") for view in about.views} if imagines else {}
    _check(folder, plans, executed, imagined)
    return Recording(
        about.task,
        about.episode,
        about.instruction,
        about.success,
        about.fps,
        {view: _sized(folder, frames, imagined.get(view)) for view, frames in executed.items()},
        tuple(_split(plans, imagined)) if imagined else (),
        _actions(folder, about.actions),
    )


def _read(path: Path) -> Written:
    try:
        return from_json(Written, json.loads(path.read_text(encoding="utf-8")), file=path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {AGAIN}") from None
    except ValueError as error:
        raise UserError(f"{path} is torn: {error}; {AGAIN}") from error
    except UserError as error:
        raise UserError(f"{error}; {AGAIN}") from error


def _actions(folder: Path, rows: Rows | None) -> Float32[np.ndarray, "n D"] | None:
    if rows is not None and len({len(row) for row in rows}) > 1:
        raise UserError(f"{folder / 'plans.json'}: actions of different widths; {AGAIN}")
    return None if rows is None else np.array(rows, np.float32)


def _check(folder: Path, plans: list[ReadPlan], executed: dict[str, Frames], imagined: dict[str, Frames]) -> None:
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


def _split(plans: list[ReadPlan], imagined: dict[str, Frames]) -> Iterator[Imagined]:
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
