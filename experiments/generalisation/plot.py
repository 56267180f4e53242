"""Draws figures/studies.png, clips.png and decoupling.png and writes table.md, of all that `figures.py` gathered."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from methods import CALIBRATION, METHODS
from results import BASELINE
from studies import STUDIES, Study

FIGURES = Path(__file__).parent / "figures"
# Its methods differ in their noise law alone, and are each played in several ways: it has a picture of its own.
LAWS = "decoupling"
WITHOUT_VIDEO = ("cloning", "diffusion_policy", "diffusion_policy_state")
LABEL = (
    "success: mean over trainings, 95 % interval over trainings and starts; small dots: trainings\n"
    "hollow, dotted: one training, interval over starts alone; orange: without video"
)


def main() -> None:
    """Draws what there is."""
    panels = {
        name if len(found) < 2 else f"{name}, {condition}": methods
        for name, found in ((name, conditions(name)) for name in STUDIES)
        for condition, methods in found.items()
        if methods
    }
    for file in ("studies.png", "clips.png", "decoupling.png"):
        if drawn := {title: methods for title, methods in panels.items() if picture(title) == file}:
            draw(drawn, file)
    (FIGURES / "table.md").write_text(table(panels), encoding="utf-8")


def picture(title: str) -> str:
    """The file that a panel is drawn in."""
    study = title.partition(",")[0]
    return "decoupling.png" if study == LAWS else "clips.png" if STUDIES[study].clips else "studies.png"


def trained_for(study: Study) -> str:
    """How long, as the head of a column says it."""
    return f"clips of {BASELINE}'s {study.minutes} min" if study.clips else f"{study.minutes} min"


def shown(panels: dict[str, dict[str, Any]]) -> list[str]:
    """The methods of these panels, in their order."""
    return sorted({name for methods in panels.values() for name in methods}, key=order)


def order(name: str) -> tuple[int, str]:
    """Methods in their own order, and each in the order of the ways in which it acts."""
    return list(METHODS).index(name.partition(".")[0]), name


def conditions(study: str) -> dict[str, dict[str, Any]]:
    """Condition -> method -> what was found."""
    path = FIGURES / f"{study}.json"
    return json.loads(path.read_text(encoding="utf-8"))["conditions"] if path.exists() else {}


def draw(panels: dict[str, dict[str, Any]], file: str) -> None:
    """A panel a study, a line a method."""
    names = shown(panels)
    size = (max(7.0, 2.2 * len(panels) + 1.5), 0.32 * len(names) + 1.3)
    figure, several = plt.subplots(1, len(panels), sharey=True, squeeze=False, figsize=size, constrained_layout=True)
    for axes, (title, methods) in zip(several[0], panels.items(), strict=True):
        for row, name in enumerate(names):
            if name in methods:
                line(axes, row, methods[name], "tab:orange" if name in WITHOUT_VIDEO else "tab:blue")
        axes.set_title(title, fontsize=9)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks((0, 0.5, 1))
        axes.grid(axis="x", alpha=0.3)
    several[0][0].set_yticks(range(len(names)), names)
    several[0][0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(LABEL, fontsize=8)
    figure.savefig(FIGURES / file, dpi=110)


def line(axes: Axes, row: int, method: dict[str, Any], colour: str) -> None:
    """Every training, their mean, and its interval; of one training, about starts alone, it is dotted."""
    found, each = method["success"], [rate(training) for training in method["trainings"]]
    alone = len(each) == 1
    axes.plot([found["low"], found["high"]], [row, row], color=colour, linewidth=1.5, linestyle=":" if alone else "-")
    axes.plot(found["estimate"], row, "o", color=colour, markerfacecolor="white" if alone else colour)
    if not alone:
        axes.plot(each, [row + 0.25] * len(each), ".", color=colour, alpha=0.5, markersize=4)


def rate(training: dict[str, Any]) -> float:
    """Success of all episodes of a training."""
    return training["all"]["successes"] / training["all"]["episodes"]


def table(panels: dict[str, dict[str, Any]]) -> str:
    """A line a method: what acting costs, and in each study of so many minutes success, trainings and clips seen."""
    costs = json.loads(CALIBRATION.read_text(encoding="utf-8")).get("acting", {})
    titles = (f"{title}, {trained_for(STUDIES[title.partition(',')[0]])}" for title in panels)
    heads = ("policy", "weights, million", "ms a plan", "passes of what sees, of the head", *titles)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in shown(panels):
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
