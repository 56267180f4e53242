"""A data set on one page: what it holds, what is wrong, and for each task its pictures and its actions."""

import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image as Pictures
from tqdm import tqdm

from videopolicy.actions.layout import Layout
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.checking import text
from videopolicy.datasets.checking.checks import Findings
from videopolicy.datasets.checking.phrases import plural
from videopolicy.datasets.checking.problems import Problem, ProblemKind, grouped
from videopolicy.durable import write_text
from videopolicy.report import plots
from videopolicy.report.compose import data_uri
from videopolicy.report.markup import paragraph, plot, section, table
from videopolicy.types import Image

# The tasks with most episodes; frames of one episode; episodes with their first and last frame; dimensions plotted.
TASKS, FRAMES, EPISODES, DIMENSIONS = 40, 8, 6, 16
# Pixels of a picture's height, beyond which it is made smaller.
_HEIGHT = 160
_HERE = Path(__file__).parent


def write_sheet(dataset: Dataset, found: Findings, path: Path) -> Path:
    """Writes the contact sheet as one HTML file that needs nothing else; it appears whole or not at all.

    Args:
        dataset: what was looked at.
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
    shown = tqdm(ordered[:TASKS], desc="contact sheet", unit="task")
    parts = [_facts(found), _problems(found), *(_task(dataset, found, *task) for task in shown)]
    if len(ordered) > TASKS:
        rest = plural(len(ordered) - TASKS, "task")
        parts.append(paragraph(f"Not shown: {rest} with fewer episodes.", "note"))
    name = found.path.resolve().name
    return Template((_HERE / "page.html").read_text()).substitute(
        title=escape(f"{name} · {text.verdict(found)}"),
        headline=escape(name),
        subtitle=escape(text.verdict(found)),
        button="",
        style=(_HERE / "page.css").read_text(),
        script="",
        sections="\n".join(parts),
    )


def _facts(found: Findings) -> str:
    tables = [table((), text.facts(found), kind="settings")]
    if dimensions := text.dimensions(found):
        tables.append(table((), dimensions, kind="settings"))
    return section("", f'<div class="plots">{"".join(tables)}</div>')


def _problems(found: Findings) -> str:
    groups = (_group(found, kind, problems) for kind, problems in grouped(found.problems).items())
    return section("What is wrong", *groups) if found.problems else ""


def _group(found: Findings, kind: ProblemKind, problems: Sequence[Problem]) -> str:
    colour = "failure" if kind.severity == "error" else "action"
    sign = f'<span class="outcome" style="--outcome:var(--{colour})">{kind.severity}</span>'
    lines = "".join(f"<li>{escape(line)}</li>" for line in text.details(problems))
    head = f"<h3>{sign} {escape(text.headline(kind, problems))}</h3>"
    return f"{head}<ul>{lines}</ul>{paragraph(f'To do: {text.remedy(kind, found)}.', 'note')}"


def _task(dataset: Dataset, found: Findings, instruction: str, episodes: Sequence[int]) -> str:
    suspicious = {problem.episode for problem in found.problems}
    chosen = next((index for index in episodes if index not in suspicious), episodes[0])
    others = [index for index in episodes if index != chosen][: EPISODES - 1]
    parts = [_strips(dataset, chosen)]
    if others:
        parts.append(_ends(dataset, [chosen, *others]))
    curves = [dataset.episode(index, ()).actions for index in (chosen, *others)]
    key = str(list(found.instructions).index(instruction))
    if moving := [curve for curve in curves if curve is not None]:
        parts.append(_curves(moving, found.space, key))
    count = plural(len(episodes), "episode")
    return section(f"{instruction or 'no instruction'} ({count})", *parts)


def _strips(dataset: Dataset, index: int) -> str:
    """Frames of one episode, evenly spread, a row a view."""
    length = dataset.length(index)
    steps = np.linspace(0, length - 1, min(FRAMES, length)).round().astype(int).tolist()
    columns = {f"step {step}": dataset.episode(index, None, step, step + 1).views for step in steps}
    rows = {view: [seen[view][0] for seen in columns.values()] for view in dataset.views}
    return _strip(f"episode {index}", list(columns), rows)


def _ends(dataset: Dataset, episodes: Sequence[int]) -> str:
    """The first and the last frame of some episodes, for each view."""
    rows: dict[str, list[Image]] = {}
    for index in episodes:
        length = dataset.length(index)
        for name, step in (("first", 0), ("last", length - 1)):
            for view, frames in dataset.episode(index, None, step, step + 1).views.items():
                rows.setdefault(f"{view}, {name}", []).append(frames[0])
    ordered = {name: rows[name] for view in dataset.views for name in (f"{view}, first", f"{view}, last")}
    return _strip("first and last frames", [f"episode {index}" for index in episodes], ordered)


def _strip(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[Image]]) -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{_cells(images, name, heads)}</tr>' for name, images in rows.items()
    )
    return (
        f'<div class="strip"><span class="quiet">{escape(title)}</span><div class="scroll" style="--frame:116px">'
        f'<table style="--columns:{len(heads)}"><thead><tr><th></th>{top}</tr></thead><tbody>{body}</tbody></table>'
        "</div></div>"
    )


def _cells(images: Iterable[Image], name: str, heads: Sequence[str]) -> str:
    return "".join(
        f'<td><img src="{_jpeg_uri(image)}" alt="{escape(f"{name}, {head}")}"></td>'
        for image, head in zip(images, heads, strict=True)
    )


def _jpeg_uri(image: Image) -> str:
    picture = Pictures.fromarray(image)
    picture.thumbnail((4 * _HEIGHT, _HEIGHT))
    buffer = io.BytesIO()
    # Every pixel keeps its own colour: at 64 pixels, shared ones bleed.
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return data_uri("image/jpeg", buffer.getvalue())


def _curves(curves: Sequence[np.ndarray], space: Layout | None, key: str) -> str:
    names = _names(space, curves[0].shape[1])[:DIMENSIONS]
    curves = [curve for curve in curves if np.isfinite(curve).all()]
    if not curves:
        return ""
    left = curves[0].shape[1] - len(names)
    note = "Actions over control steps: the episode above bold, others faint." + (
        f" {left} more are not shown." * (left > 0)
    )
    ranges = (
        f"{name} {low:.3g} to {high:.3g}"
        for name, low, high in zip(names, curves[0].min(0), curves[0].max(0), strict=False)
    )
    figure = plot(plots.actions(curves, names, key), f"Actions: {'; '.join(ranges)}", escape(note))
    wide = figure.replace("<figure>", '<figure style="max-width:920px">', 1)
    return f'<div class="plots">{wide}</div>'


def _names(space: Layout | None, width: int) -> list[str]:
    """What stands over each dimension's panel."""
    if space is None:
        return [f"action {number}" for number in range(width)]
    kinds = (
        f"{part.reference} {part.kind}".strip().replace("_", " ") for part in space.parts for _ in range(part.width)
    )
    return [f"{number} {kind}" for number, kind in enumerate(kinds)]
