"""What a study found, from what it has played so far: `python figures.py STUDY` writes figures/STUDY.json.

Intervals of a method are over trainings and starts together (`videopolicy.rollout.trainings`); differences are to the
baseline `cloning`, from the same starts.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from studies import STUDIES, Study

from videopolicy.hardware import device_name
from videopolicy.rollout.results import Result, read_evaluation
from videopolicy.rollout.statistics import clopper_pearson
from videopolicy.rollout.trainings import OverTrainings, difference, mean_success, outcomes

HERE = Path(__file__).parent
BASELINE = "cloning"


def write(name: str, study: Study, folder: Path) -> None:
    """Gathers every training of a study that has been played to the end, and prints a line a method."""
    conditions = {condition: compared(played(folder, condition)) for condition in study.conditions}
    facts = {"study": name, **machine(), "minutes": study.minutes, "conditions": conditions}
    path = HERE / "figures" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for condition, methods in conditions.items():
        for method, found in methods.items():
            less = f"; less {BASELINE}: {found['difference']['told']}" if "difference" in found else ""
            print(f"{condition} {method}: {found['success']['told']}{less}")


def played(folder: Path, condition: str) -> dict[str, list[Path]]:
    """The runs of each method."""
    runs: dict[str, list[Path]] = {}
    for run in sorted(folder.glob(f"*-{condition}-*/")):
        if (run / "done").exists() and (run / "evaluation").exists():
            runs.setdefault(run.name.split(f"-{condition}-")[0], []).append(run)
    return runs


def compared(runs: dict[str, list[Path]]) -> dict[str, Any]:
    """Every method's figures, and its difference to the baseline."""
    rows = {method: [read_evaluation(run)[1] for run in several] for method, several in runs.items()}
    return {
        method: {
            "success": in_points(mean_success(outcomes(rows[method])[0], rng())),
            **({} if method == BASELINE or BASELINE not in rows else against(rows[BASELINE], rows[method])),
            "trainings": [
                {"run": run.name, **trained(run), **rates(results)}
                for run, results in zip(runs[method], rows[method], strict=True)
            ],
        }
        for method in runs
    }


def against(baseline: list[list[Result]], method: list[list[Result]]) -> dict[str, Any]:
    """The method's success less the baseline's."""
    return {"difference": in_points(difference(*outcomes(baseline, method), rng()))}


def rng() -> np.random.Generator:
    """Draws the samples of an interval, the same ones each time."""
    return np.random.default_rng(0)


def in_points(found: OverTrainings) -> dict[str, Any]:
    """As plain numbers."""
    plain = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(found).items()}
    return {**plain, "told": str(found), **({"warning": found.warning} if found.warning else {})}


def trained(run: Path) -> dict[str, Any]:
    """How long a run trained."""
    provenance = json.loads((run / "checkpoint" / "config.json").read_text(encoding="utf-8"))["provenance"]
    known = provenance["episodes"] - provenance["without_actions"]
    minutes = provenance["notes"]["minutes of training"]
    return {"steps": provenance["steps"], "minutes": minutes, "demonstrations_with_actions": known}


def rates(rows: list[Result]) -> dict[str, Any]:
    """Success of each task, and of all episodes."""
    groups = {task: [row.success for row in rows if row.task == task] for task in dict.fromkeys(r.task for r in rows)}
    every = {**(groups if len(groups) > 1 else {}), "all": [row.success for row in rows]}
    return {name: rate(outcomes) for name, outcomes in every.items()}


def rate(won: list[bool]) -> dict[str, Any]:
    """Successes, episodes, and Clopper and Pearson's interval."""
    interval = clopper_pearson(sum(won), len(won))
    return {
        "successes": sum(won),
        "episodes": len(won),
        "interval_95": [round(interval.low, 3), round(interval.high, 3)],
    }


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


if __name__ == "__main__":
    write(sys.argv[1], STUDIES[sys.argv[1]], Path("runs/generalisation").resolve() / sys.argv[1])
