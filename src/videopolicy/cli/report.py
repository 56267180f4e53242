"""Writes a run's report: one HTML file, videos of the imagined beside the executed first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from videopolicy.report.page import write_report


@dataclass(frozen=True)
class Command:
    """Writes RUN/report.html: one file with the videos, success rates, similarity, loss curves and settings.

    It needs no network and nothing beside it, so it can be mailed or put on any web server.

    Example: videopolicy report runs/button-press
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", name="run")]
    """A run that was evaluated, or the folder of an evaluation."""
    out: Path | None = None
    """The file to write, if not report.html in that folder."""

    def run(self) -> None:
        """Writes the report and says where it is."""
        print(write_report(self.run_folder, self.out))
