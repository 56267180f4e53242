"""What an episode looked like, beside what the policy imagined: a folder of videos per episode.

`executed_VIEW.mp4` holds one frame per control step and one more: frame n was seen before action n, the last after the
last action. `imagined_VIEW.mp4` holds the frames of every plan in order, T a plan; frame k of a plan made at step s
shows step s + offsets[k]. `plans.json` says which plan was made when, with what actions, and which were executed; in
the env's own units, and null for one that is no number.
"""

import json
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from videopolicy.errors import name_path_in_errors
from videopolicy.media import write_mp4
from videopolicy.types import Action, Image, Observation, Plan


class Recorder:
    """Collects one episode's frames and plans, then writes them as one folder."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._executed: defaultdict[str, list[Image]] = defaultdict(list)
        self._imagined: defaultdict[str, list[Image]] = defaultdict(list)
        self._plans: list[dict[str, object]] = []
        self._actions: list[Action] = []
        self._looks = 0

    def add_observation(self, observation: Observation) -> None:
        """Adds what was seen before the next action; call once more after the last action."""
        for view, image in observation.images.items():
            self._executed[view].append(image)
        self._looks += 1

    def add_plan(self, plan: Plan) -> None:
        """Adds the plan made from what was last seen."""
        facts = {"step": self._looks - 1, "offsets": list(plan.offsets), "actions": _plain(plan.actions)}
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
        facts |= {"fps": self._fps, "views": list(self._executed), "length": self._looks - 1, "plans": self._plans}
        facts["actions"] = [row for action in self._actions for row in _plain(action[None])]
        (folder / "plans.json").write_text(json.dumps(facts, allow_nan=False) + "\n")
        folder.chmod(0o755)


def _plain(actions: Float32[np.ndarray, "n D"]) -> list[list[float | None]]:
    """As JSON has them: the shortest digits that give the same float32."""
    return [[float(str(value)) if np.isfinite(value) else None for value in row] for row in actions.astype(np.float32)]


def sweep(recordings: Path) -> None:
    """Removes what a killed run left half written."""
    for leftover in recordings.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)
