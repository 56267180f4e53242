"""Draws figures/studies.png and writes figures/table.md, of every policy in every study that `figures.py` gathered."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from methods import CALIBRATION, METHODS
from studies import STUDIES

FIGURES = Path(__file__).parent / "figures"


def main() -> None:
    """Draws what there is."""
    panels = {
        name if len(found) < 2 else f"{name}, {condition}": methods
        for name, found in ((name, conditions(name)) for name in STUDIES)
        for condition, methods in found.items()
        if methods
    }
    shown = sorted({name for methods in panels.values() for name in methods}, key=order)
    draw(panels, shown)
    (FIGURES / "table.md").write_text(table(panels, shown), encoding="utf-8")


def order(name: str) -> tuple[int, str]:
    """Methods in their own order, and each in the order of the ways in which it acts."""
    return list(METHODS).index(name.partition(".")[0]), name


def conditions(study: str) -> dict[str, dict[str, Any]]:
    """Condition -> method -> what was found."""
    path = FIGURES / f"{study}.json"
    return json.loads(path.read_text(encoding="utf-8"))["conditions"] if path.exists() else {}


def draw(panels: dict[str, dict[str, Any]], shown: list[str]) -> None:
    """A panel a study, a line a method: every training, their mean, and its interval."""
    size = (max(7.0, 2.2 * len(panels) + 1.5), 0.32 * len(shown) + 1.2)
    figure, several = plt.subplots(1, len(panels), sharey=True, squeeze=False, figsize=size, constrained_layout=True)
    for axes, (title, methods) in zip(several[0], panels.items(), strict=True):
        for row, name in enumerate(shown):
            if name not in methods:
                continue
            found, colour = methods[name]["success"], "tab:orange" if name == "cloning" else "tab:blue"
            axes.plot([found["low"], found["high"]], [row, row], color=colour, linewidth=1.5)
            axes.plot(found["estimate"], row, "o", color=colour)
            each = [rate(training) for training in methods[name]["trainings"]]
            axes.plot(each, [row + 0.25] * len(each), ".", color=colour, alpha=0.5, markersize=4)
        axes.set_title(title, fontsize=9)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(axis="x", alpha=0.3)
    several[0][0].set_yticks(range(len(shown)), shown)
    several[0][0].invert_yaxis()
    figure.supxlabel(
        "success: mean over trainings, 95 % interval over trainings and starts; small dots: trainings", fontsize=8
    )
    figure.savefig(FIGURES / "studies.png", dpi=110)


def rate(training: dict[str, Any]) -> float:
    """Success of all episodes of a training."""
    return training["all"]["successes"] / training["all"]["episodes"]


def table(panels: dict[str, dict[str, Any]], shown: list[str]) -> str:
    """A line a method: what acting costs, and in each study success, interval, trainings and clips seen."""
    costs = json.loads(CALIBRATION.read_text(encoding="utf-8")).get("acting", {})
    heads = ("policy", "weights, million", "ms a plan", "passes of the video model, of the head", *panels)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in shown:
        method, _, way = name.partition(".")
        cost = costs.get(METHODS[method].presets["metaworld"], {})
        # What acting costs was measured of each preset's own way.
        acting = ("", "") if way else (f"{cost['milliseconds']:.0f}", f"{cost['passes']}, {cost['head_passes']}")
        plan = (f"{cost['weights'] / 1e6:.1f}", *acting)
        cells = (cell(methods.get(name)) for methods in panels.values())
        lines.append("| " + " | ".join(chain((f"`{name}`",), plan, cells)) + " |")
    return "\n".join(lines) + "\n"


def cell(found: dict[str, Any] | None) -> str:
    """Success in per cent, its interval, how many trainings, and the thousands of clips that each saw."""
    if found is None:
        return ""
    success, trainings = found["success"], found["trainings"]
    clips = max(training["clips"] for training in trainings) / 1e3
    low, high = round(100 * success["low"]), round(100 * success["high"])
    return f"{100 * success['estimate']:.0f} % ({low}-{high}), {len(trainings)} x {clips:.0f} k"


if __name__ == "__main__":
    main()
