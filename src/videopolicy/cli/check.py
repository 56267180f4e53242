"""Says what a data set holds and what is wrong with it."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from videopolicy.cli.convert import summary
from videopolicy.datasets.checking import text
from videopolicy.datasets.checking.checks import Findings, examine
from videopolicy.datasets.checking.problems import grouped
from videopolicy.datasets.conversion.convert import check_target, convert
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError
from videopolicy.ownership import owned
from videopolicy.processors import processors
from videopolicy.progress import progress_bar
from videopolicy.report.contact_sheet import write_sheet


@dataclass(frozen=True)
class Command:
    """Reads every frame and every action of a data set, prints what it holds, and what is wrong.

    The exit code is 1 if there are errors, which training would fail of or learn from, and 0 if there are none, or only
    warnings, at which a person should look.

    Example: videopolicy check data/button --html button.html

    What can be mended without guessing is mended in a new data set: videopolicy check downloaded --repair mended
    """

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """The data set: a folder or a file."""
    format: str | None = None
    """Its format, a name from `videopolicy.datasets`; seen from what lies there if not given."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = AS_IT_IS
    repair: Path | None = None
    """Also write a data set of this project's own format here, of all that can be read: numbers, counts, spans, path
    templates and statistics are made anew, what is lost is left out. It is checked in turn, and decides the exit code.
    """
    html: Path | None = None
    """Also write a contact sheet here: one HTML file with a strip for each task."""

    def run(self) -> None:
        """Looks, and prints.

        Raises:
            UserError: no data set, or --html cannot be written.
        """
        if self.html and self.html.is_dir():
            raise UserError(f"--html {self.html} is a folder; name a file in it")
        if self.html and not self.html.parent.is_dir():
            raise UserError(f"--html {self.html}: there is no folder {self.html.parent}; make it first")
        if self.repair:
            check_target(self.data, self.repair)
        with owned(self.html, "check", [self.data]) if self.html else nullcontext():
            found = self._look()
        if self.repair:
            found = self._repaired(self.repair)
        if found.errors:
            raise SystemExit(1)

    def _look(self) -> Findings:
        """Looks, and prints what was found."""
        dataset = open_any(self.data, self.format, self.reading)
        total = sum(dataset.length(index) for index in range(len(dataset)))
        with progress_bar(total=total, desc="check", unit="step") as bar:
            found = examine(dataset, bar.update)
        print(report(found, self.repair))
        if self.html:
            print(f"contact sheet: {write_sheet(dataset, found, self.html)}")
        return found

    def _repaired(self, target: Path) -> Findings:
        """Writes what can be read, says what was done, and looks at the result."""
        outcome = convert(ConversionSource(self.data, self.format, self.reading), target, processors())
        print("\n".join(["", *summary(outcome, target)]))
        written = open_any(target)
        with progress_bar(total=outcome.frames, desc="check", unit="step") as bar:
            found = examine(written, bar.update)
        print(f"{target}: {text.verdict(found)}")
        return found


def report(found: Findings, repaired: Path | None = None) -> str:
    """The findings as text; what a terminal would obey rather than show is taken out.

    Args:
        found: of a data set.
        repaired: where a mended one is being written, if one is.
    """
    rows = [*text.facts(found), *text.dimensions(found), *text.instructions(found)]
    wide = max(len(name) for name, _ in rows)
    lines = [str(found.path), *(f"  {name:{wide}}  {value}" for name, value in rows), ""]
    for kind, problems in grouped(found.problems).items():
        lines.append(f"{kind.severity}: {text.headline(kind, problems)}")
        lines += [f"    {detail}" for detail in text.details(problems)]
        lines += [f"    to do: {text.remedy(kind, found, repaired)}", ""]
    whole = "\n".join([*lines, text.verdict(found)])
    return "".join(letter for letter in whole if letter.isprintable() or letter == "\n")
