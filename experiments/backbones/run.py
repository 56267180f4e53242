"""What is a transformer worth beside a U-Net, in the same time? Records, trains, plays, compares.

    python experiments/backbones/run.py [--minutes 8] [--seeds 0 1 2]

Presets `tiny` and `tiny_wan` learn from the same demonstrations of two tasks for as long on one core, one after the
other, and are played from the same starts. Their heads, noise laws and recipes are the same. What is finished is not
done again. Figures land in results.json and curves.png.
"""

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from videopolicy.rollout.results import Result, read_evaluation
from videopolicy.rollout.trainings import OverTrainings, difference, mean_success, outcomes

HERE = Path(__file__).parent
TASKS = ("button-press-topdown-v3", "window-close-v3")
PRESETS = ("tiny", "tiny_wan")
LOSSES = ("video", "action")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    """Runs what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/backbones"), help="data, checkpoints and logs")
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training, on one thread")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    runs = options.runs.resolve()
    data = runs / "data"
    if not data.exists():
        command("record", "--task", *TASKS, "--views", "corner2", "--size", 64, "--episodes", 50, "--out", data)
    trained: dict[str, list[Path]] = {preset: [] for preset in PRESETS}
    # Presets alternate, so that a machine that slows down slows both.
    for seed, preset in product(options.seeds, PRESETS):
        run = runs / f"{preset}-{seed}"
        trained[preset].append(run)
        if not (run / "done").exists():
            # As many steps as a fast machine takes: the minutes end it.
            recipe = ("--preset", preset, "--minutes", options.minutes, "--steps", 100_000, "--seed", seed)
            resume = ("--resume",) if (run / "state").exists() else ()
            command("train", "--data", data, "--out", run, "--validation-episodes", 10, *recipe, *resume)
            (run / "done").touch()
        start = ("--task", *TASKS, "--episodes", 50, "--out", run / "evaluation")
        command("evaluate", "--checkpoint", run / "checkpoint", *start)
    for preset in PRESETS:
        if not (runs / f"{preset}.json").exists():
            command("bench", "--train", preset, "--json", runs / f"{preset}.json")
    write(runs, trained, options.minutes)


def command(verb: str, *options: object) -> None:
    """Runs a verb of videopolicy."""
    words = [sys.executable, "-m", "videopolicy", verb, *map(str, options)]
    print(" ".join(words[2:]), flush=True)
    subprocess.run(words, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


def losses(run: Path) -> list[dict[str, Any]]:
    """The lines of a training's log."""
    return [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]


def played(runs: list[Path]) -> list[list[Result]]:
    """The episodes of each run."""
    return [read_evaluation(run / "evaluation")[1] for run in runs]


def write(runs: Path, trained: dict[str, list[Path]], minutes: float) -> None:
    """Success and its difference, over trainings and starts together, what a step costs, and the curves."""
    each = outcomes(*map(played, trained.values()))
    rates = dict(zip(trained, each, strict=True))
    found: dict[str, Any] = {"minutes": minutes, "tasks": TASKS}
    for preset, folders in trained.items():
        found[preset] = {
            "success": told(mean_success(rates[preset], np.random.default_rng(0))),
            "by_run": [sum(row.success for row in results) for results in played(folders)],
            "by_task": {
                task: [sum(row.success for row in results if row.task == task) for results in played(folders)]
                for task in TASKS
            },
            "episodes_a_run": sum(task.shape[1] for task in rates[preset]),
            "steps": [losses(folder)[-1]["step"] for folder in folders],
            "cost": json.loads((runs / f"{preset}.json").read_text(encoding="utf-8")),
        }
    found["tiny_wan less tiny"] = told(difference(*each, np.random.default_rng(0)))
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    draw(trained)


def told(found: OverTrainings) -> dict[str, Any]:
    """An estimate and its 95 % interval, in points."""
    points = {name: round(100 * getattr(found, name), 1) for name in ("estimate", "low", "high")}
    return {**points, "trainings": found.trainings}


def draw(trained: dict[str, list[Path]]) -> None:
    """Training losses over wall time, a line a run."""
    figure, axes = plt.subplots(1, len(LOSSES), figsize=(9, 3.5), constrained_layout=True)
    for axis, name in zip(axes, LOSSES, strict=True):
        for number, (preset, folders) in enumerate(trained.items()):
            for index, folder in enumerate(folders):
                lines = [line for line in losses(folder) if name in line]
                label = preset if index == 0 else None
                seconds = [line["seconds"] for line in lines]
                axis.semilogy(seconds, [line[name] for line in lines], color=f"C{number}", alpha=0.6, label=label)
        axis.set_xlabel("seconds of training")
        axis.set_ylabel(f"loss of the {name}")
        axis.legend()
    figure.savefig(HERE / "curves.png", dpi=110)


if __name__ == "__main__":
    main()
