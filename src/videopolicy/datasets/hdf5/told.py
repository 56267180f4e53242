"""Gathers what is to be said of files and of the episodes in them, so that what holds for many is said once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from videopolicy.datasets.notes import Note, NoteKind
from videopolicy.datasets.phrases import plural
from videopolicy.errors import UserError

# Names that are listed before the rest is only counted.
_LISTED = 3


@dataclass
class _Said:
    """Where something holds: of which files, or of which episodes in one of them."""

    files: list[Path] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


class Told:
    """Notes on the files of one data set."""

    def __init__(self) -> None:
        self._said: dict[tuple[NoteKind, str, Path | None], _Said] = {}

    def of_all(self, kind: NoteKind, text: str, numbers: Sequence[int] = ()) -> None:
        """Something about the data set as a whole."""
        self._at(kind, text, None).numbers += numbers

    def of_file(self, kind: NoteKind, file: Path, text: str, numbers: Sequence[int] = ()) -> None:
        """Something about a file; with the numbers of its episodes, if they are lost."""
        said = self._at(kind, text, None)
        said.files.append(file)
        said.numbers += numbers

    def of_episode(self, kind: NoteKind, file: Path, inside: str, text: str, number: int | None = None) -> None:
        """Something about one of several episodes of a file.

        Args:
            kind: see `Note`.
            file: where it is.
            inside: what the file calls it; "" if it is the file.
            text: what is to be said.
            number: of the episode, if it is lost.
        """
        numbers = [] if number is None else [number]
        if not inside:
            self.of_file(kind, file, text, numbers)
            return
        said = self._at(kind, text, file)
        said.inside.append(inside)
        said.numbers += numbers

    def notes(self) -> tuple[Note, ...]:
        """All that was said, in that order."""
        return tuple(
            Note(kind, _where(file, said) + text, tuple(said.numbers))
            for (kind, text, file), said in self._said.items()
        )

    def _at(self, kind: NoteKind, text: str, file: Path | None) -> _Said:
        return self._said.setdefault((kind, text, file), _Said())


def reason(error: UserError, file: Path, *inside: str) -> str:
    """What an error says, without the file and the place in it that a note names anyway."""
    said = str(error)
    for prefix in (*(f"{file}: {place}" for place in inside), f"{file}: "):
        if said.startswith(prefix):
            return said.removeprefix(prefix).lstrip("/: ")
    return said


def listed(names: Sequence[str], most: int = _LISTED) -> str:
    """Names one after the other; of many, the first, and how many others there are."""
    rest = len(names) - most
    if rest > 0:
        return f"{', '.join(names[:most])} and {plural(rest, 'other')}"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _where(file: Path | None, said: _Said) -> str:
    if file is not None:
        return f"{file}: {listed(said.inside)}: "
    rest = len(said.files) - 1
    more = f" and {plural(rest, 'other file')}" if rest > 0 else ""
    return f"{said.files[0]}{more}: " if said.files else ""
