"""What a training came to, kept where the next machine finds it: results/STUDY/METHOD-CONDITION-SEED.json.

Data and checkpoints are too large to keep; a file here holds how each start ended, and is enough for every figure. A
training that has one is not trained again.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videopolicy.durable import write_text
from videopolicy.hardware import device_name
from videopolicy.rollout.results import Result, read_evaluation

HERE = Path(__file__).parent
FOLDER = HERE / "results"
# What all others are compared with, and whose clips are the others' at equal clips.
BASELINE = "cloning"
# How the name of a study at equal clips ends.
CLIPS = ".clips"


@dataclass(frozen=True)
class Kept:
    """A file of results.

    Attributes:
        path: STUDY/METHOD-CONDITION-SEED.json.
    """

    path: Path

    @classmethod
    def of(cls, study: str, method: str, condition: str, seed: int) -> "Kept":
        """The file of one training; at equal clips the baseline's is the one of equal time, which is the same."""
        folder = study.removesuffix(CLIPS) if method.partition(".")[0] == BASELINE else study
        return cls(FOLDER / folder / f"{method}-{condition}-{seed}.json")

    def write(self, run: Path, evaluation: Path, clips: int) -> None:
        """Keeps what a run trained, of so many clips in all its phases, and how the episodes of an evaluation ended."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        starts: dict[str, list[list[int]]] = {}
        for row in sorted(read_evaluation(evaluation)[1], key=lambda row: (row.task, row.seed)):
            starts.setdefault(row.task, []).append([row.seed, int(row.success), row.steps])
        facts = {**trained(run), "clips": clips, **machine(), "seed_success_steps": starts}
        # A line a task reads well, and so does its difference.
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items())
        write_text(self.path, "{\n" + lines + "\n}\n")

    @property
    def facts(self) -> dict[str, Any]:
        """All that the file holds."""
        return json.loads(self.path.read_text(encoding="utf-8"))

    @property
    def rows(self) -> list[Result]:
        """How each episode ended."""
        return [
            Result(task, episode, seed, bool(success), steps, seconds=0.0, plans=0, recorded=False)
            for task, starts in self.facts["seed_success_steps"].items()
            for episode, (seed, success, steps) in enumerate(starts)
        ]


def trained(run: Path) -> dict[str, Any]:
    """How long a run trained, and of what."""
    provenance = json.loads((run / "checkpoint" / "config.json").read_text(encoding="utf-8"))["provenance"]
    known = provenance["episodes"] - provenance["without_actions"]
    minutes = provenance["notes"]["minutes of training"]
    return {"steps": provenance["steps"], "minutes": minutes, "demonstrations_with_actions": known}


def machine() -> dict[str, Any]:
    """Where and by which code."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE, encoding="utf-8"
    ).stdout
    return {
        "commit": commit.strip(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": device_name(torch.device("cpu")),
        "torch": torch.__version__,
    }
