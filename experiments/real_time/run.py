"""How much does a late plan cost? Records, trains, plays with latencies, compares: python run.py [--runs FOLDER].

A policy of two tasks acts without latency (the robot waits for it), with latency as if there were none (naive), and
guided to go on from its plan before (inpainted). Then it learns, for half as many steps again, to continue committed
actions, and acts so (trained). 50 starts a task, same for all.
What is finished is not done again. Figures land in figures.json and real_time.png.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from videopolicy.datasets.formats import open_any
from videopolicy.rollout.comparison import pair, pooled
from videopolicy.rollout.results import Result, read_evaluation
from videopolicy.rollout.statistics import clopper_pearson

HERE = Path(__file__).parent
TASKS = ("button-press-topdown-v3", "window-close-v3")
LATENCIES = (2, 4, 8)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PLAIN, CONTINUING = "plain", "continuing"
# Way -> which training, and how it acts.
WAYS = {"naive": (PLAIN, ()), "inpainted": (PLAIN, ("--inpaint", 5)), "trained": (CONTINUING, ())}


def main() -> None:
    """Runs what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/real_time"), help="data, checkpoints and logs")
    parser.add_argument("--preset", default="cotrained")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    runs = options.runs.resolve()
    data = runs / "data"
    if not data.exists():
        command("record", "--env", "metaworld", "--task", *TASKS, "--views", "corner2", "--size", 64, "--out", data)
    train(data, runs / PLAIN, "--preset", options.preset, "--steps", options.steps)
    begin = ("--init", runs / PLAIN / "checkpoint", "--committed", max(LATENCIES))
    train(data, runs / CONTINUING, "--preset", options.preset, "--steps", options.steps // 2, *begin)
    played = {"waiting": play(runs, PLAIN, "waiting", 0)}
    for latency in LATENCIES:
        for way, (name, extra) in WAYS.items():
            played[f"{way}, {latency}"] = play(runs, name, f"{way}-{latency}", latency, *extra)
    write(played, joins(open_any(data, None)))


def train(data: Path, run: Path, *recipe: object) -> None:
    """Trains, or goes on training, to the end."""
    if not (run / "done").exists():
        resume = ("--resume",) if (run / "state").exists() else ()
        command("train", "--data", data, "--out", run, "--seed", 0, *recipe, *resume)
        (run / "done").touch()


def play(runs: Path, name: str, way: str, latency: int, *extra: object) -> Path:
    """Plays both tasks; the folder of the evaluation, where the first episodes are recorded."""
    out = runs / f"{name}-{way}"
    options = ("--task", *TASKS, "--episodes", 50, "--latency", latency, "--record", 10, "--out", out, *extra)
    command("evaluate", "--checkpoint", runs / name / "checkpoint", *options)
    return out


def command(verb: str, *options: object) -> None:
    """Runs a verb of videopolicy."""
    words = [sys.executable, "-m", "videopolicy", verb, *map(str, options)]
    print(" ".join(words[2:]), flush=True)
    subprocess.run(words, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


def joins(data: Any) -> float:
    """The step of an action's largest change from one control step to the next that 99 % of the data's stay below."""
    changes = [np.abs(np.diff(data.episode(index).actions, axis=0)).max(1) for index in range(len(data))]
    return float(np.quantile(np.concatenate(changes), 0.99))


def jumps(evaluation: Path, bound: float) -> float:
    """Of the steps at which a new plan takes over, the share whose change of the action is beyond the bound."""
    beyond = []
    for file in sorted((evaluation / "recordings").glob("*/plans.json")):
        written = json.loads(file.read_text(encoding="utf-8"))
        executed = np.array(written["actions"], float)
        latency = json.loads((evaluation / "settings.json").read_text(encoding="utf-8"))["latency"]
        starts = [plan["step"] + latency for plan in written["plans"][1:]]
        changes = np.abs(np.diff(executed, axis=0)).max(1)
        beyond += [changes[start - 1] > bound for start in starts if start - 1 < len(changes)]
    return float(np.mean(beyond))


def write(played: dict[str, Path], bound: float) -> None:
    """Success, its interval, the difference to waiting, and the jumps; as numbers and as a picture."""
    rows = {way: read_evaluation(folder)[1] for way, folder in played.items()}
    found = {way: figures(results, rows["waiting"], jumps(played[way], bound)) for way, results in rows.items()}
    (HERE / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for way, row in found.items():
        print(way, row)
    figure, axes = plt.subplots(figsize=(6, 3.5), constrained_layout=True)
    latencies = (0, *LATENCIES)
    for way in WAYS:
        several = [found["waiting"], *(found[f"{way}, {latency}"] for latency in LATENCIES)]
        rates = np.array([row["successes"] / row["episodes"] for row in several])
        ends = np.array([row["interval_95"] for row in several]).T
        axes.errorbar(latencies, rates, yerr=np.abs(ends - rates), marker="o", capsize=3, label=way)
    axes.set_xlabel("latency, control steps (0: the robot waits)")
    axes.set_ylabel("success")
    axes.set_ylim(0, 1.03)
    axes.legend()
    figure.savefig(HERE / "real_time.png", dpi=110)


def figures(results: list[Result], waiting: list[Result], share: float) -> dict[str, Any]:
    """One line of the table."""
    won = sum(row.success for row in results)
    interval, both = clopper_pearson(won, len(results)), pooled(list(pair(waiting, results).values()))
    low, high = both.interval()
    return {
        "successes": won,
        "episodes": len(results),
        "interval_95": [round(interval.low, 3), round(interval.high, 3)],
        "less_waiting": [round(value, 3) for value in (both.difference, low, high)],
        "jumps": round(share, 3),
    }


if __name__ == "__main__":
    main()
