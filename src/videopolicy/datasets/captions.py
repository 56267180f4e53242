"""What a folder of videos says of each one: a row of its table of captions, or a text file beside the video."""

import csv
import io
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from videopolicy.datasets.files import unreadable
from videopolicy.errors import UserError
from videopolicy.pointers import refuse_pointer

TABLE = "captions.csv"
_COLUMNS = ["caption", "file"]
_NOT_UTF_8 = "is not UTF-8 text; save it as UTF-8"
# Bytes that are not UTF-8, and those that no text has: zeros of a lost block, bits turned over.
_FOREIGN = re.compile("[\udc80-\udcff\x00-\x08\x0e-\x1f\x7f]")
_QUOTES = "its quotes do not pair; put one before and one after a caption with commas"


@dataclass(frozen=True)
class Fault:
    """Why a video cannot be used.

    Attributes:
        place: the file, and the line of it if one is to blame.
        cause: what is wrong there, and what to do; the same words whatever the place.
    """

    place: str
    cause: str

    @classmethod
    def of(cls, file: Path, error: UserError) -> "Fault":
        """Of an error whose message begins with the file."""
        return cls(str(file), str(error).removeprefix(f"{file}: "))


@dataclass(frozen=True)
class Table:
    """What a table says.

    Attributes:
        captions: of each file; see `name_in_table`.
        odd: files whose row cannot be read, and why.
        stray: rows that cannot be read and name no video.
        fault: why the table as a whole cannot be read, or None.
    """

    captions: Mapping[str, str] = field(default_factory=dict)
    odd: Mapping[str, Fault] = field(default_factory=dict)
    stray: tuple[Fault, ...] = ()
    fault: Fault | None = None


@dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]
    # All that stands in its lines, whatever the quotes.
    words: set[str]
    whole: bool


def name_in_table(folder: Path, file: Path) -> str:
    """A video's path from the folder, as a table in UTF-8 says it, whatever the locale and the system's accents."""
    return normalize("NFC", os.fsencode(file.relative_to(folder).as_posix()).decode("utf-8", "surrogateescape"))


def read_table(file: Path, names: Collection[str]) -> Table:
    """Reads a table; a row that cannot be read costs only the videos that it names.

    Args:
        file: the table; it may be missing.
        names: of the videos there are; see `name_in_table`.
    """
    try:
        refuse_pointer(file)
        # A row of another encoding leaves the others as they are. Spreadsheets put a byte-order mark in front.
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError:
        return Table()
    except OSError as error:
        return Table(fault=Fault.of(file, unreadable(file, error)))
    except UserError as error:
        return Table(fault=Fault.of(file, error))
    rows = _rows(text)
    head = next(rows, _Row(1, [], set(), True))
    columns = [cell.strip() for cell in head.cells]
    first = text.partition("\n")[0]
    if not _is_text(first):
        return Table(fault=Fault(str(file), _NOT_UTF_8))
    if sorted(columns) != _COLUMNS:
        return Table(fault=Fault(str(file), "its first line must be file,caption: the names of its columns"))
    return _read(file, [row for row in rows if any(row.cells)], columns.index("file"), frozenset(names))


def read_beside(video: Path) -> str | Fault:
    """The caption in the text file beside a video; "" if there is none."""
    file = video.with_suffix(".txt")
    try:
        refuse_pointer(file)
        text = file.read_text(encoding="utf-8-sig")
        return " ".join(text.split()) if _is_text(text) else Fault(str(file), _NOT_UTF_8)
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return Fault(str(file), _NOT_UTF_8)
    except OSError as error:
        return Fault.of(file, unreadable(file, error))
    except UserError as error:
        return Fault.of(file, error)


def _read(file: Path, rows: list[_Row], column: int, names: frozenset[str]) -> Table:
    captions, odd, stray = dict[str, str](), dict[str, Fault](), list[Fault]()
    for row in rows:
        named = {_path(word) for word in row.words} & names
        if wrong := _wrong(row, named):
            fault = Fault(f"{file}, line {row.line}", wrong)
            odd |= dict.fromkeys(named, fault)
            stray += [] if named else [fault]
            continue
        name, caption = _path(row.cells[column]), " ".join(row.cells[1 - column].split())
        if caption and captions.setdefault(name, caption) != caption:
            odd[name] = Fault(f"{file}, line {row.line}", "is a second caption of one video; keep one of them")
    return Table({name: text for name, text in captions.items() if name not in odd}, odd, tuple(stray))


def _wrong(row: _Row, named: Collection[str]) -> str:
    """What is wrong with a row, "" if nothing."""
    # A quote that is not closed makes one row of several, and one caption of their text.
    if not row.whole or len(named) > 1:
        return _QUOTES
    if len(row.cells) != len(_COLUMNS):
        return "has not two columns; put quotes around a caption with commas"
    return "" if all(_is_text(cell) for cell in row.cells) else _NOT_UTF_8


def _rows(text: str) -> Iterator[_Row]:
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, strict=True)
    while True:
        before = reader.line_num
        try:
            cells, whole = next(reader), True
        except StopIteration:
            return
        except csv.Error:
            cells, whole = ["?"], False
        words = re.split(r'[,"]', ",".join(lines[before : reader.line_num]))
        yield _Row(before + 1, cells, set(words), whole)


def _path(word: str) -> str:
    return normalize("NFC", PurePosixPath(word.strip().replace("\\", "/")).as_posix())


def _is_text(text: str) -> bool:
    return not _FOREIGN.search(text)
