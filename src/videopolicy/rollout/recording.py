"""What an episode looked like, beside what the policy imagined: a folder of videos per episode.

`executed_VIEW.mp4` holds one frame per control step and one more: frame n was seen before action n, the last after the
last action. `imagined_VIEW.mp4` holds the frames of every plan in order, T a plan; frame k of a plan made at step s
shows step s + offsets[k]. `plans.json` says which plan was made when.
"""

import json
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from videopolicy.errors import naming
from videopolicy.media import write_mp4
from videopolicy.types import Image, Observation, Plan


class Recorder:
    """Collects one episode's frames and plans, then writes them as one folder."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._executed: defaultdict[str, list[Image]] = defaultdict(list)
        self._imagined: defaultdict[str, list[Image]] = defaultdict(list)
        self._plans: list[dict[str, object]] = []
        self._looks = 0

    def saw(self, observation: Observation) -> None:
        """Adds what was seen before the next action; call once more after the last action."""
        for view, image in observation.images.items():
            self._executed[view].append(image)
        self._looks += 1

    def planned(self, plan: Plan) -> None:
        """Adds the plan made from what was last seen."""
        self._plans.append({"step": self._looks - 1, "offsets": list(plan.offsets)})
        for view, frames in (plan.imagined or {}).items():
            self._imagined[view].extend(frames)

    def write(self, folder: Path, *, task: str, episode: int, instruction: str, success: bool) -> None:
        """Writes everything; the folder appears complete or not at all, and replaces an older one of its name."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            with naming(folder):
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
        (folder / "plans.json").write_text(json.dumps(facts, indent=2) + "\n")
        folder.chmod(0o755)


def sweep(recordings: Path) -> None:
    """Removes what a killed run left half written."""
    for leftover in recordings.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)
