"""The report of a run: one HTML file that needs nothing else, videos first."""

from pathlib import Path

from videopolicy.durable import write_text
from videopolicy.ownership import owned
from videopolicy.report import cards, sections, training
from videopolicy.report import run as runs
from videopolicy.report.episodes import Shown, show
from videopolicy.report.markup import render
from videopolicy.rollout.results import evaluation_folder
from videopolicy.rollout.statistics import summary_line


def write_report(run: Path, out: Path | None = None) -> Path:
    """Writes the report of a run; the file appears whole or not at all.

    Args:
        run: the folder of a run that was evaluated, or of an evaluation.
        out: the file to write; by default `report.html` in that folder.

    Returns:
        The file that was written.

    Raises:
        UserError: nothing evaluated there, or a torn file; the message says which. Or no place for a report.
    """
    evaluation_folder(run)
    path = out or run / "report.html"
    with owned(path, "report"):
        read = runs.read(run)
        text = page(read, show(read.results, read.recordings))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return path


def page(run: runs.Run, shown: list[Shown]) -> str:
    """The whole page as HTML."""
    headline = summary_line(sum(result.success for result in run.results), len(run.results))
    parts = (
        cards.grid(shown),
        cards.strips(shown),
        sections.success(run.results),
        sections.similarity(shown),
        training.section_of(run),
        sections.settings(run),
    )
    return render(
        "page.html",
        title=f"{headline} · {run.folder.resolve().name}",
        headline=headline,
        subtitle=_subtitle(run, shown),
        plays=bool(shown),
        sections=parts,
    )


def _subtitle(run: runs.Run, shown: list[Shown]) -> str:
    """The instruction, if there is one for all; else the tasks."""
    instructions = {episode.instruction for episode in shown}
    tasks = list(dict.fromkeys(result.task for result in run.results))
    if len(instructions) == 1 and len(tasks) == 1:
        return f"“{instructions.pop()}”"
    return tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks: {', '.join(tasks)}"
