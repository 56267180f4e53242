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
    write(played, of_data(open_any(data, None)))


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


def of_data(data: Any) -> dict[str, float]:
    """How much the demonstrations' actions change from one control step to the next, the most of all dimensions."""
    return told(np.concatenate([changes(data.episode(index).actions) for index in range(len(data))]))


def changes(actions: np.ndarray) -> np.ndarray:
    """Of (T, D) actions the largest change of each step, (T - 1,)."""
    return np.abs(np.diff(actions, axis=0)).max(1)


def told(some: np.ndarray) -> dict[str, float]:
    """Quantiles."""
    return {name: round(float(np.quantile(some, q)), 3) for name, q in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))}


def executed(evaluation: Path) -> dict[str, dict[str, float]]:
    """The changes at the steps where a new plan takes over, and at all others."""
    latency = json.loads((evaluation / "settings.json").read_text(encoding="utf-8"))["latency"]
    joins: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for file in sorted((evaluation / "recordings").glob("*/plans.json")):
        written = json.loads(file.read_text(encoding="utf-8"))
        each = changes(np.array(written["actions"], float))
        starts = np.array([plan["step"] + latency for plan in written["plans"][1:]], int)
        at = np.isin(np.arange(1, len(each) + 1), starts)
        joins.append(each[at])
        others.append(each[~at])
    return {"joins": told(np.concatenate(joins)), "others": told(np.concatenate(others))}


def write(played: dict[str, Path], demonstrations: dict[str, float]) -> None:
    """Success, its interval, the difference to waiting, and changes of actions; as numbers and as a picture."""
    rows = {way: read_evaluation(folder)[1] for way, folder in played.items()}
    found = {way: {**figures(results, rows["waiting"]), **executed(played[way])} for way, results in rows.items()}
    facts = {"demonstrations": demonstrations, **found}
    (HERE / "figures.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for way, row in found.items():
        print(way, row)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), constrained_layout=True)
    for way in WAYS:
        several = [found["waiting"], *(found[f"{way}, {latency}"] for latency in LATENCIES)]
        rates = np.array([row["successes"] / row["episodes"] for row in several])
        ends = np.array([row["interval_95"] for row in several]).T
        latencies = np.array((0, *LATENCIES)) + 0.1 * list(WAYS).index(way)
        left.errorbar(latencies, rates, yerr=np.abs(ends - rates), marker="o", capsize=3, label=way)
        right.plot(latencies, [row["joins"]["p95"] for row in several], marker="o", label=way)
    right.axhline(demonstrations["p99"], color="black", label="demonstrations, 99 % of all steps")
    right.axhline(demonstrations["p95"], color="black", linestyle=":", label="demonstrations, 95 % of all steps")
    left.set_ylabel("success")
    right.set_ylabel("change of the action at joins, 95 %")
    for axes in (left, right):
        axes.set_xlabel("latency, control steps (0: the robot waits)")
        axes.set_ylim(0, 1.05)
    right.legend(fontsize=8, loc="center right")
    figure.savefig(HERE / "real_time.png", dpi=110)


def figures(results: list[Result], waiting: list[Result]) -> dict[str, Any]:
    """One line of the table."""
    won = sum(row.success for row in results)
    interval, both = clopper_pearson(won, len(results)), pooled(list(pair(waiting, results).values()))
    low, high = both.interval()
    return {
        "successes": won,
        "episodes": len(results),
        "interval_95": [round(interval.low, 3), round(interval.high, 3)],
        "less_waiting": [round(value, 3) for value in (both.difference, low, high)],
    }


if __name__ == "__main__":
    main()
