"""A data set on one page: what it holds, what is wrong, and for each task its pictures and its actions."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pictures

from videopolicy.actions.layout import Layout
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.checking import text
from videopolicy.datasets.checking.checks import Findings
from videopolicy.datasets.checking.problems import grouped
from videopolicy.datasets.phrases import plural
from videopolicy.durable import write_text
from videopolicy.progress import progress_bar
from videopolicy.report import plots
from videopolicy.report.compose import data_uri
from videopolicy.report.markup import Drawing, render
from videopolicy.types import Image

# The tasks with most episodes; frames of one episode; episodes with their first and last frame; dimensions plotted.
TASKS, FRAMES, EPISODES, DIMENSIONS = 40, 8, 6, 16
# Pixels of a picture's height, beyond which it is made smaller.
_HEIGHT = 160


def write_sheet(dataset: Dataset, found: Findings, path: Path) -> Path:
    """Writes the contact sheet as one HTML file that needs nothing else; it appears whole or not at all.

    Args:
        dataset: what was examined.
        found: what `videopolicy.datasets.checking.checks.examine` said of it.
        path: the file.

    Returns:
        The file that was written.

    Raises:
        UserError: an episode that could be read before cannot be read any more.
    """
    text = _page(dataset, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _page(dataset: Dataset, found: Findings) -> str:
    ordered = sorted(found.instructions.items(), key=lambda task: -len(task[1]))
    shown = progress_bar(ordered[:TASKS], desc="contact sheet", unit="task")
    parts = [_facts(found), _problems(found), *(_task(dataset, found, *task) for task in shown)]
    if len(ordered) > TASKS:
        parts.append(render("sheet_rest.html", rest=plural(len(ordered) - TASKS, "task")))
    name = found.path.resolve().name
    return render(
        "page.html",
        title=f"{name} · {text.verdict(found)}",
        headline=name,
        subtitle=text.verdict(found),
        plays=False,
        sections=parts,
    )


def _facts(found: Findings) -> str:
    return render("sheet_facts.html", tables=[rows for rows in (text.facts(found), text.dimensions(found)) if rows])


def _problems(found: Findings) -> str:
    groups = [
        (kind.severity, text.headline(kind, problems), text.details(problems), text.remedy(kind, found))
        for kind, problems in grouped(found.problems).items()
    ]
    return render("sheet_problems.html", groups=groups) if groups else ""


def _task(dataset: Dataset, found: Findings, instruction: str, episodes: Sequence[int]) -> str:
    suspicious = {number for problem in found.problems for number in problem.episodes}
    chosen = next((index for index in episodes if dataset.number(index) not in suspicious), episodes[0])
    others = [index for index in episodes if index != chosen][: EPISODES - 1]
    strips = [_frames(dataset, chosen)]
    if others:
        strips.append(_ends(dataset, [chosen, *others]))
    curves = [dataset.episode(index, ()).actions for index in (chosen, *others)]
    key = str(list(found.instructions).index(instruction))
    count = plural(len(episodes), "episode")
    return render(
        "sheet_task.html",
        title=f"{instruction or 'no instruction'} ({count})",
        strips=strips,
        drawing=_curves([curve for curve in curves if curve is not None], found.layout, key),
    )


def _frames(dataset: Dataset, index: int) -> dict[str, Any]:
    """Frames of one episode, evenly spread, a row a view."""
    length = dataset.length(index)
    steps = np.linspace(0, length - 1, min(FRAMES, length)).round().astype(int).tolist()
    columns = {f"step {step}": dataset.episode(index, None, step, step + 1).views for step in steps}
    rows = {view: [seen[view][0] for seen in columns.values()] for view in dataset.views}
    return _strip(f"episode {index}", list(columns), rows)


def _ends(dataset: Dataset, episodes: Sequence[int]) -> dict[str, Any]:
    """The first and the last frame of some episodes, for each view."""
    rows: dict[str, list[Image]] = {}
    for index in episodes:
        length = dataset.length(index)
        for name, step in (("first", 0), ("last", length - 1)):
            for view, frames in dataset.episode(index, None, step, step + 1).views.items():
                rows.setdefault(f"{view}, {name}", []).append(frames[0])
    ordered = {name: rows[name] for view in dataset.views for name in (f"{view}, first", f"{view}, last")}
    return _strip("first and last frames", [f"episode {index}" for index in episodes], ordered)


def _strip(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[Image]]) -> dict[str, Any]:
    pictures = {name: [_jpeg_uri(image) for image in images] for name, images in rows.items()}
    return {"title": title, "heads": heads, "rows": pictures}


def _jpeg_uri(image: Image) -> str:
    picture = Pictures.fromarray(image)
    picture.thumbnail((4 * _HEIGHT, _HEIGHT))
    buffer = io.BytesIO()
    # Every pixel keeps its own colour: at 64 pixels, shared ones bleed.
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return data_uri("image/jpeg", buffer.getvalue())


def _curves(curves: Sequence[np.ndarray], layout: Layout | None, key: str) -> Drawing | None:
    curves = [curve for curve in curves if np.isfinite(curve).all()]
    if not curves:
        return None
    width = curves[0].shape[1]
    names = _names(layout, width)[:DIMENSIONS]
    note = "Actions over control steps: the episode above bold, others faint."
    if left := width - len(names):
        note += f" {left} more are not shown."
    ranges = (
        f"{name} {low:.3g} to {high:.3g}"
        for name, low, high in zip(names, curves[0].min(0), curves[0].max(0), strict=False)
    )
    return Drawing(plots.actions(curves, names, key), f"Actions: {'; '.join(ranges)}", note)


def _names(layout: Layout | None, width: int) -> list[str]:
    """What stands over each dimension's panel."""
    if layout is None:
        return [f"action {number}" for number in range(width)]
    kinds = (
        f"{part.reference} {part.kind}".strip().replace("_", " ") for part in layout.parts for _ in range(part.width)
    )
    return [f"{number} {kind}" for number, kind in enumerate(kinds)]
