"""Figures of finished runs of the demo as JSON: `python collect.py RUN [RUN ...] > results.json`."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from videopolicy.hardware import device_name
from videopolicy.rollout.statistics import clopper_pearson


def figures(run: Path) -> dict[str, object]:
    """What one run of `videopolicy demo` gave."""
    demo = json.loads((run / "demo.json").read_text(encoding="utf-8"))
    training = json.loads((run / "config.json").read_text(encoding="utf-8"))["training"]
    provenance = json.loads((run / "checkpoint" / "config.json").read_text(encoding="utf-8"))["provenance"]
    losses = [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [
        json.loads(line) for line in (run / "evaluation" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    tasks = {}
    for task in sorted({row["task"] for row in rows}):
        outcomes = [row["success"] for row in rows if row["task"] == task]
        interval = clopper_pearson(sum(outcomes), len(outcomes))
        tasks[task] = {
            "successes": sum(outcomes),
            "episodes": len(outcomes),
            "interval_95": [round(interval.low, 3), round(interval.high, 3)],
        }
    return {
        "run": run.name,
        "stage": training["stage"],
        "seed": training["seed"],
        "tasks": tasks,
        "steps": provenance["steps"],
        "final_losses": {name: losses[-1][name] for name in ("video", "action") if name in losses[-1]},
        "minutes": demo["minutes"],
    }


def main() -> None:
    """Prints the figures of every run named on the command line."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.strip()
    facts = {
        "commit": commit,
        "cores": len(os.sched_getaffinity(0)),
        "processor": device_name(torch.device("cpu")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "runs": [figures(Path(folder)) for folder in sys.argv[1:]],
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
