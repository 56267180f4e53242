"""What a study found, from what it has played so far: `python figures.py STUDY` writes figures/STUDY.json."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from studies import STUDIES, Study

from videopolicy.hardware import device_name
from videopolicy.rollout.results import Result, read_evaluation
from videopolicy.rollout.statistics import clopper_pearson

HERE = Path(__file__).parent


def write(name: str, study: Study, folder: Path) -> None:
    """Gathers every training of a study that has been played to the end."""
    conditions: dict[str, Any] = {}
    for condition in study.conditions:
        conditions[condition] = {}
        for run in sorted(folder.glob(f"*-{condition}-*/")):
            method, seed = run.name.split(f"-{condition}-")
            if (run / "done").exists() and (run / "evaluation").exists():
                conditions[condition].setdefault(method, {})[seed] = {**trained(run), **rates(read_evaluation(run)[1])}
    facts = {"study": name, **machine(), "minutes": study.minutes, "conditions": conditions}
    path = HERE / "figures" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for condition, methods in conditions.items():
        for method, seeds in methods.items():
            print(
                condition,
                method,
                *(f"{found['all']['successes']}/{found['all']['episodes']}" for found in seeds.values()),
            )


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


def rate(outcomes: list[bool]) -> dict[str, Any]:
    """Successes, episodes, and Clopper and Pearson's interval."""
    interval = clopper_pearson(sum(outcomes), len(outcomes))
    return {
        "successes": sum(outcomes),
        "episodes": len(outcomes),
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
