"""What is not read as it stands on disk, said to whoever checks, converts or trains."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from videopolicy.datasets.phrases import plural, ranges
from videopolicy.errors import UserError

NoteKind = Literal["left out", "video only", "mended", "assumed", "unused", "converted"]
# Numbers of episodes that are listed before the rest is only counted.
_LISTED = 12


@dataclass(frozen=True)
class Note:
    """One thing that a reader does other than to read what is there.

    Attributes:
        kind: "left out": what cannot be read, and is lost; "video only": episodes without actions, where others have
            some; "mended": what is read otherwise than the files say; "assumed": what the files do not say (a rate);
            "unused": what is sound, and not read (a depth map, a column that nothing here uses); "converted": what the
            conversion that wrote the data set said.
        text: where, what, and what to do about it; a sentence for a person, which does not number the episodes.
        episodes: their numbers on disk (see `Dataset.number`); () if it is about the data set as a whole.
    """

    kind: NoteKind
    text: str
    episodes: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.text} ({numbered(self.episodes)})" if self.episodes else self.text


def left_out(notes: Iterable[Note]) -> int:
    """How many episodes are lost."""
    return len({number for note in notes if note.kind == "left out" for number in note.episodes})


def merged(notes: Iterable[Note]) -> list[Note]:
    """The same, with those that differ in nothing but numbers as one: of its files or counts, the first is told."""
    alike: dict[tuple[str, str], list[Note]] = {}
    for note in notes:
        alike.setdefault((note.kind, without_numbers(note.text)), []).append(note)
    found = []
    for group in alike.values():
        text = group[0].text + _others({note.text for note in group})
        found.append(Note(group[0].kind, text, tuple(sorted({number for note in group for number in note.episodes}))))
    return found


def without_numbers(text: str) -> str:
    """What is the same in texts that differ in nothing but numbers."""
    return re.sub(r"[0-9]+", "0", text)


def _others(texts: Collection[str]) -> str:
    """How many there are beside the one that is told."""
    count = len(texts) - 1
    if not count:
        return ""
    # A text begins with its file.
    files = {text.partition(": ")[0] for text in texts}
    return f"; the same holds for {plural(count, 'other file') if len(files) == len(texts) else f'{count} more'}"


def lines(notes: Sequence[Note], used: int) -> list[str]:
    """All notes in lines, after one that says how many episodes of how many are used.

    Args:
        notes: of a data set.
        used: its episodes.
    """
    lost = left_out(notes)
    first = [f"{used} of {used + lost} episodes are used, {lost} left out:"] if lost else []
    return first + list(map(line, notes))


def line(note: Note) -> str:
    """What a note says, after its kind."""
    return f"{'when it was converted' if note.kind == 'converted' else note.kind}: {note}"


def kept(notes: Iterable[Note]) -> tuple[str, ...]:
    """The lines that a data set keeps of its conversion, those of earlier conversions as they were."""
    return tuple(note.text if note.kind == "converted" else line(note) for note in notes)


def refuse(notes: Sequence[Note]) -> None:
    """Raises UserError if something was lost or mended, for whoever wants all or nothing (`--strict`)."""
    for note in notes:
        if note.kind in ("left out", "video only", "mended"):
            raise UserError(f"{line(note)}; --strict refuses that, without it the rest is used")


def numbered(episodes: Sequence[int]) -> str:
    """Numbers of episodes as a person would say them: "episodes 0-3, 5"."""
    told = ranges(episodes)
    more = f" and more, {len(episodes)} in all" if len(told) > _LISTED else ""
    return f"episode{'s' if len(episodes) > 1 else ''} {', '.join(told[:_LISTED])}{more}"
