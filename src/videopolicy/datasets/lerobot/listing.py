"""Which episodes a data set's descriptions list, in the same words for v3.0 and v2.1, and where they say these are.

v2.1, before many episodes shared a file; v2.0 differs in its statistics alone:

    meta/info.json                              as in v3.0, with other path templates
    meta/tasks.jsonl                            {"task_index": 0, "task": "open it"} a line
    meta/episodes.jsonl                         {"episode_index": 0, "tasks": ["open it"], "length": 120} a line
    data/chunk-000/episode_000000.parquet       one row a control step, of one episode
    videos/chunk-000/KEY/episode_000000.mp4     one episode
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videopolicy.datasets.files import read_text, visible
from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.faults import OddError, sound
from videopolicy.datasets.lerobot.info import EPISODES, OLD_EPISODES, OLD_TASKS, Info
from videopolicy.datasets.lerobot.rows import read_table, schema
from videopolicy.datasets.notes import Note
from videopolicy.errors import UserError

_OWN = (
    spec.EPISODE_TASK,
    spec.EPISODE_SUCCESS,
    spec.EPISODE_SEED,
    spec.EPISODE_LABELLED_BY,
    spec.EPISODE_CONFIDENCE,
)


@dataclass(frozen=True)
class Span:
    """Where a description says that one view of one episode is.

    Attributes:
        file: the video.
        begin: seconds from its beginning; None if that is not said.
        end: the same; None if that is not said.
    """

    file: Path
    begin: float | None
    end: float | None


@dataclass(frozen=True)
class Listed:
    """One episode, as it is listed.

    Attributes:
        index: its number.
        length: its control steps; None if that is not said.
        tasks: its instructions, in no order that means anything.
        data: the file of its rows.
        spans: feature key -> where its frames are, for views stored as video that are said to be somewhere.
        task: the env's name of the task, "" if unspecified.
        success: whether it was done, or None.
        seed: the env's seed, or None.
        labelled_by: what read the actions from the video, "" if they were recorded.
        confidence: in these labels, or None.
    """

    index: int
    length: int | None
    tasks: tuple[str, ...] = ()
    data: Path | None = None
    spans: dict[str, Span] = field(default_factory=dict)
    task: str = ""
    success: bool | None = None
    seed: int | None = None
    labelled_by: str = ""
    confidence: float | None = None


@dataclass
class Listing:
    """Everything that the descriptions list.

    Attributes:
        episodes: by number.
        tasks: the instructions by their number.
        whole: whether the list of episodes could be read to its end.
        notes: what of it cannot be read.
    """

    episodes: dict[int, Listed] = field(default_factory=dict)
    tasks: dict[int, str] = field(default_factory=dict)
    whole: bool = True
    notes: list[Note] = field(default_factory=list)


def described_by(info: Info) -> list[Path]:
    """The files that list the episodes and the instructions."""
    if info.old:
        return [info.path / OLD_EPISODES, info.path / OLD_TASKS]
    return [*visible(info.path / EPISODES, (".parquet",)), info.path / spec.TASKS]


def read_listing(info: Info, keys: Sequence[str]) -> Listing:
    """What can be read of the lists.

    Args:
        info: the description.
        keys: the views that are stored as video.
    """
    listing = Listing()
    _read_tasks(info, listing)
    for where, listed in _old(info, keys, listing) if info.old else _new(info, keys, listing):
        if listed.index in listing.episodes:
            same = "the first time counts"
            listing.notes.append(Note("mended", f"{where}: lists an episode twice; {same}", (listed.index,)))
        else:
            listing.episodes[listed.index] = listed
    listing.episodes = dict(sorted(listing.episodes.items()))
    return listing


def _read_tasks(info: Info, listing: Listing) -> None:
    file = info.path / (OLD_TASKS if info.old else spec.TASKS)
    try:
        with sound(f"{file}: not a list of instructions"):
            listing.tasks = _old_tasks(file) if info.old else _new_tasks(file)
    except UserError as error:
        listing.notes.append(Note("mended", f"{error}; the instruction listed with each episode is used"))


def _old_tasks(file: Path) -> dict[int, str]:
    return {_whole(line["task_index"]): _text(line["task"]) for _, line in _lines(file)}


def _new_tasks(file: Path) -> dict[int, str]:
    # It is written as the index of a table of pandas, which may not have been given a name.
    names = schema(file).names
    words = next(name for name in ("task", "__index_level_0__", *names) if name in names)
    return {_whole(row["task_index"]): _text(row[words]) for row in read_table(file, ["task_index", words]).to_pylist()}


def _old(info: Info, keys: Sequence[str], listing: Listing) -> Iterator[tuple[Path, Listed]]:
    file = info.path / OLD_EPISODES
    try:
        rows = list(_lines(file, listing))
    except UserError as error:
        listing.whole = False
        listing.notes.append(Note("mended", f"{error}; the episodes are taken from the data files instead"))
        return
    for where, line in rows:
        try:
            with sound(f"{where}: lists no episode"):
                index = _whole(line["episode_index"])
                place = index // info.chunks_size, index
                spans = {key: Span(info.place("video", *place, key), 0.0, None) for key in keys}
                tasks = tuple(map(_text, line.get("tasks") or ()))
                yield file, Listed(index, _count(line.get("length")), tasks, info.place("data", *place), spans)
        except UserError as error:
            listing.whole = False
            listing.notes.append(Note("mended", f"{error}; what it should say is taken from the data files"))


def _new(info: Info, keys: Sequence[str], listing: Listing) -> Iterator[tuple[Path, Listed]]:
    files = visible(info.path / EPISODES, (".parquet",))
    if not files:
        listing.whole = False
        listing.notes.append(
            Note(
                "mended",
                f"{info.path / EPISODES}: no parquet file in it lists the episodes; they are taken from the data files",
            )
        )
    for file in files:
        try:
            rows = _rows(file, keys)
        except UserError as error:
            listing.whole = False
            listing.notes.append(
                Note("mended", f"{error}; the episodes that it should list are taken from the data files")
            )
            continue
        for number, row in enumerate(rows):
            try:
                with sound(f"{file}: row {number} lists no episode"):
                    yield file, _listed(info, row, keys)
            except UserError as error:
                listing.whole = False
                listing.notes.append(Note("mended", f"{error}; what it should say is taken from the data files"))


def _rows(file: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    parts = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    wanted = {"length", "data/chunk_index", "data/file_index", "tasks", *_OWN}
    wanted |= {f"videos/{key}/{part}" for key in keys for part in parts}
    return read_table(file, ["episode_index", *(name for name in schema(file).names if name in wanted)]).to_pylist()


def _listed(info: Info, row: dict[str, Any], keys: Sequence[str]) -> Listed:
    data, spans = None, {}
    if place := _place(row, "data"):
        data = info.place("data", *place)
    for key in keys:
        if place := _place(row, f"videos/{key}"):
            begin, end = (_number(row.get(f"videos/{key}/{end}_timestamp")) for end in ("from", "to"))
            spans[key] = Span(info.place("video", *place, key), begin, end)
    success, seed = row.get(spec.EPISODE_SUCCESS), row.get(spec.EPISODE_SEED)
    return Listed(
        _whole(row["episode_index"]),
        _count(row.get("length")),
        tuple(map(_text, row.get("tasks") or ())),
        data,
        spans,
        _text(row.get(spec.EPISODE_TASK) or ""),
        success if isinstance(success, bool) else None,
        seed if isinstance(seed, int) else None,
        _text(row.get(spec.EPISODE_LABELLED_BY) or ""),
        _number(row.get(spec.EPISODE_CONFIDENCE)),
    )


def _place(row: dict[str, Any], prefix: str) -> tuple[int, int] | None:
    """The numbers of a file's folder and of the file; None if the row does not say them."""
    chunk, number = (row.get(f"{prefix}/{name}") for name in ("chunk_index", "file_index"))
    if isinstance(chunk, int) and isinstance(number, int) and chunk >= 0 and number >= 0:
        return chunk, number
    return None


def _lines(file: Path, listing: Listing | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of a list and where it stands; one that is none is told, or ends it if there is nobody to tell."""
    for number, text in enumerate(read_text(file).splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            if not isinstance(line, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError) as error:
            wrong = f"{file}: line {number} is not a JSON object; it is cut short or damaged"
            if listing is None:
                raise UserError(wrong) from error
            listing.whole = False
            listing.notes.append(Note("mended", f"{wrong}; what it should say is taken from the data files"))
            continue
        yield f"{file}: line {number}", line


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise OddError(f"{json.dumps(value, default=str)} where a whole number is needed")
    return value


def _count(value: Any) -> int | None:
    """How many steps, if that is said."""
    return value if isinstance(value, int) and value > 0 else None


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if number else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise OddError(f"{json.dumps(value, default=str)} where words are needed")
    return value
