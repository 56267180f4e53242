"""Pictures of a diagnosis, as PNG files."""

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from videopolicy.diagnosis.diagnosis import SHARED, Diagnosis
from videopolicy.diagnosis.sorting import ACTIONS, UNCLEAR, VIDEO

SUCCESS, FAILURE, GREY = "#2a7ab9", "#d1495b", "#b0b4ba"
_KINDS = {VIDEO: "#7a5195", ACTIONS: "#ef8354", UNCLEAR: GREY}
_COLUMNS = 4


def draw(diagnosis: Diagnosis, folder: Path) -> list[Path]:
    """Draws both pictures into a folder; returns their paths."""
    figures = {"episodes.png": _episodes(diagnosis)}
    if any(diagnosis.sorted(one) for one in diagnosis.episodes):
        figures["failures.png"] = _failures(diagnosis)
    for name, figure in figures.items():
        aside = folder / f".{name}"
        figure.savefig(aside, format="png", dpi=150)
        aside.replace(folder / name)
    return [folder / name for name in figures]


def _episodes(diagnosis: Diagnosis) -> Figure:
    """Skill of the video against disagreement of the actions, a panel a task, a point an episode."""
    tasks = list(diagnosis.shared)
    columns = min(_COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.9 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in panels[len(tasks) :]:
        axes.set_visible(False)
    for axes, task in zip(panels, tasks, strict=False):
        _style(axes)
        axes.set_title(f"{task}, first {diagnosis.shared[task]} steps", fontsize=9, loc="left")
        for success, colour, mark in ((True, SUCCESS, "o"), (False, FAILURE, "X")):
            found = [
                diagnosis.summary(one, SHARED)
                for one in diagnosis.episodes
                if (one.task, one.success) == (task, success)
            ]
            points = [(one.skill, one.disagreement) for one in found if None not in (one.skill, one.disagreement)]
            name = f"{'success' if success else 'failure'} ({len(found)})"
            axes.scatter(*np.array(points, float).reshape(-1, 2).T, c=colour, marker=mark, s=26, alpha=0.8, label=name)
        axes.legend(fontsize=8, frameon=False)
    figure.supxlabel('skill of the video: 1 came true, 0 as good as "nothing moves"', fontsize=9)
    figure.supylabel("actions against video, deviations", fontsize=9)
    return figure


def _failures(diagnosis: Diagnosis) -> Figure:
    """How the failures of each task are sorted, where they are."""
    tasks = [task for task, found in diagnosis.limits.items() if found]
    figure = Figure(figsize=(6.4, 1.4 + 0.36 * len(tasks)), layout="constrained")
    axes = figure.add_subplot()
    _style(axes)
    counts = Counter((one.task, found.kind) for one in diagnosis.episodes if (found := diagnosis.sorted(one)))
    left = np.zeros(len(tasks))
    for kind, colour in _KINDS.items():
        widths = np.array([counts[task, kind] for task in tasks])
        axes.barh(tasks, widths, left=left, color=colour, height=0.6, label=kind)
        left += widths
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("failures", fontsize=9)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    return figure


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e3e5e8", linewidth=0.6)
    axes.set_axisbelow(True)
