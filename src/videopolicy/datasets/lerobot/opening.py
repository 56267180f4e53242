"""Opens a LeRobotDataset: holds what its descriptions list against its files, and keeps what can be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from videopolicy.datasets.files import visible
from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.columns import Columns, choose
from videopolicy.datasets.lerobot.footage import Footage, FoundFrames, Wanted, few, find, leave_out_exchanged
from videopolicy.datasets.lerobot.info import OLD_STATS, Info, read_info
from videopolicy.datasets.lerobot.listing import Listed, Listing, read_listing
from videopolicy.datasets.lerobot.row_files import EpisodeRows, find_rows
from videopolicy.datasets.lerobot.rows import RowRange
from videopolicy.datasets.notes import Note, merged
from videopolicy.datasets.phrases import plural
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError


@dataclass(frozen=True)
class EpisodeEntry:
    """One episode that can be read, as far as can be seen without reading it.

    Attributes:
        index: its number in the tables.
        length: its control steps, those of them of which everything is there.
        tasks: all its instructions, that of most steps first.
        data: the file of its rows.
        first: its first row there.
        videos: feature key -> where its frames are, for views stored as video.
        task: the env's name of the task, "" if unspecified.
        success: whether it was done, or None.
        seed: the env's seed, or None.
        labelled_by: what read the actions from the video, "" if they were recorded.
        confidence: in these labels, or None.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    first: int
    videos: Mapping[str, Footage]
    task: str = ""
    success: bool | None = None
    seed: int | None = None
    labelled_by: str = ""
    confidence: float | None = None


@dataclass(frozen=True)
class Opened:
    """A data set whose descriptions were held against its files.

    Attributes:
        info: its description, completed by what its files say.
        columns: what is read of it.
        tasks: its instructions by their number.
        entries: its episodes.
        notes: what is left out, mended or not used.
    """

    info: Info
    columns: Columns
    tasks: Mapping[int, str]
    entries: Sequence[EpisodeEntry]
    notes: tuple[Note, ...]


def open_files(path: Path, reading: Reading) -> Opened:
    """Looks at all files of a data set, and decodes no picture of its videos.

    Raises:
        UserError: nothing of it can be read; the message names the first cause.
    """
    info = read_info(path)
    videos = [key for key, feature in info.features.items() if feature.dtype == "video" and not feature.depth]
    listing = read_listing(info, videos)
    rows = find_rows(info, listing)
    info = replace(info, features=rows.features)
    columns = choose(info, reading)
    files = visible(path / "videos", (".mp4",))
    views = {key: _frames_of(key, info, listing, rows, files) for key in columns.views.values()}
    leave_out_exchanged(views)
    columns = _without_lost_views(info, columns, views, rows)
    entries, lost, notes = _entries(listing, rows, {key: views[key] for key in columns.views.values()})
    told = [Note("converted", line) for line in info.told]
    notes = [*told, *info.notes, *listing.notes, *rows.notes, *columns.notes, *notes]
    lost = rows.lost | lost
    notes += [Note("left out", cause, (index,)) for index, cause in lost.items()]
    notes += [*_undescribed(info, files), *_counts(info, listing, entries, lost), *_statistics(info)]
    if not entries:
        raise UserError(_nothing(info, notes))
    return Opened(info, columns, listing.tasks, entries, tuple(merged(notes)))


def _nothing(info: Info, notes: Sequence[Note]) -> str:
    lost = [note for note in notes if note.kind == "left out" and note.episodes]
    if not lost:
        return f"{info.path}: holds no episodes; was its recording stopped before the first?"
    count = sum(len(note.episodes) for note in lost)
    return f"none of {plural(count, 'episode')} can be read: {lost[0].text}"


def _frames_of(key: str, info: Info, listing: Listing, rows: EpisodeRows, files: Sequence[Path]) -> FoundFrames:
    """Where in all video files the frames of one view are; pictures in the tables are where their rows are."""
    if info.features[key].dtype != "video":
        return FoundFrames()
    own = [file for file in files if key in file.parts]
    named = {file.name: file for file in reversed(own)}
    wanted, elsewhere = [], []
    for index, (_, run) in sorted(rows.found.items()):
        listed = listing.episodes[index]
        span = listed.spans.get(key)
        if info.old and span and not span.file.is_file() and span.file.name in named:
            span = replace(span, file=named[span.file.name])
            elsewhere.append(index)
        wanted.append(Wanted(index, run.stop - run.start, listed.length, span))
    found = find(wanted, info.path / "videos", own, info.fps, info.old)
    if elsewhere:
        there = named[min(named)].parent
        told = (
            f"{info.file}: names other folders for videos than {there} and the like, where they are, and are read from"
        )
        found.notes.append(Note("mended", told, tuple(elsewhere)))
    return found


def _without_lost_views(info: Info, columns: Columns, views: Mapping[str, FoundFrames], rows: EpisodeRows) -> Columns:
    """Leaves out depth cameras that nobody calls so, and views of which no episode has frames where others have."""
    kept, notes = dict(columns.views), list(columns.notes)
    for view, key in columns.views.items():
        if views[key].depth:
            del kept[view]
            notes.append(
                Note("unused", f"{info.file}: the pictures of {key} are those of a depth camera; only colours are read")
            )
    lost = {view: key for view, key in kept.items() if rows.found and not rows.found.keys() - views[key].lost.keys()}
    for view, key in lost.items() if lost.keys() != kept.keys() else ():
        del kept[view]
        cause = next(iter(views[key].lost.values()))
        notes.append(Note("left out", f"{cause}; no episode has frames of view {view!r}, which is left out"))
    return replace(columns, views=kept, notes=tuple(notes))


def _entries(
    listing: Listing, rows: EpisodeRows, views: Mapping[str, FoundFrames]
) -> tuple[list[EpisodeEntry], dict[int, str], list[Note]]:
    """The episodes of which everything is there, why others are not, and what is odd in them."""
    entries, lost, notes = [], dict[int, str](), [note for found in views.values() for note in found.notes]
    for index, (file, run) in sorted(rows.found.items()):
        listed, steps = listing.episodes[index], run.stop - run.start
        causes = [found.lost[index] for found in views.values() if index in found.lost]
        videos = {key: found.footage[index] for key, found in views.items() if index in found.footage}
        if not causes and (odd := _miscount(file, run, listed, videos)):
            causes, said = ([odd.text], []) if odd.kind == "left out" else ([], [odd])
            notes += said
        if causes:
            lost[index] = causes[0]
            continue
        length = min([steps, *(footage.count for footage in videos.values())])
        tasks, told = _instructions(listing, listed, file, run)
        notes += told
        known = (listed.task, listed.success, listed.seed, listed.labelled_by, listed.confidence)
        entries.append(EpisodeEntry(index, length, tasks, file, run.start, videos, *known))
    return entries, lost, notes


def _miscount(file: Path, run: RowRange, listed: Listed, videos: Mapping[str, Footage]) -> Note | None:
    """What is said where an episode has other numbers of rows, of frames and of steps that are listed."""
    steps = run.stop - run.start
    for footage in videos.values():
        missing = steps - footage.count
        if missing and abs(missing) <= few(steps) and run.first == 0:
            count = plural(abs(missing), "frame")
            lacks = f"ends {count} before the steps of an episode do; the steps without a frame are not read"
            spare = f"has {count} after the last step of an episode; what comes after that step is not read"
            return Note("mended", f"{footage.file}: {lacks if missing > 0 else spare}", (listed.index,))
        if missing:
            has = f"has {plural(footage.count, 'frame')} of an episode of {plural(steps, 'step')}"
            return Note("left out", f"{footage.file}: {has}; which frame belongs to which step cannot be told")
    if listed.length not in (None, steps):
        has = f"has {plural(steps, 'row')} of an episode that is listed with {plural(listed.length or 0, 'step')}"
        return Note("mended", f"{file}: {has}; the rows count", (listed.index,))
    return None


def _instructions(listing: Listing, listed: Listed, file: Path, run: RowRange) -> tuple[tuple[str, ...], list[Note]]:
    """What is done in an episode, that of most steps first; and what is said of how it was found out."""
    index, known = listed.index, [listing.tasks[task] for task in run.tasks if task in listing.tasks]
    if len(listed.tasks) == 1 and listed.tasks[0] in (known or listed.tasks):
        if run.tasks and not known:
            told = (
                f"{file}: has a task_index that no list of tasks has; the instruction listed with the episode is used"
            )
            return listed.tasks, [Note("mended", told, (index,))]
        lacks = f"{file}: has no task_index; the instruction listed with the episode is used"
        return listed.tasks, [] if run.tasks else [Note("mended", lacks, (index,))]
    if len(known) > 1:
        return tuple(known), [
            Note("mended", f"{file}: gives an episode several instructions; that of most steps is used", (index,))
        ]
    if known:
        wrong = f"{file}: has another instruction than the list of episodes; that of the rows is used"
        return tuple(known), [Note("mended", wrong, (index,))] if listed.tasks else []
    if listed.tasks:
        several = f"{file}: does not say which of an episode's several instructions is meant; the first is used"
        return listed.tasks, [Note("mended", several, (index,))]
    only = set(listing.tasks.values())
    if len(only) == 1:
        told = f"{file}: names no instruction; the only one of the data set is used"
        return tuple(only), [Note("mended", told, (index,))]
    return ("",), [
        Note(
            "left out",
            f"{file}: nothing says what is done in an episode; its instruction is empty; mend the list of tasks",
            (),
        )
    ]


def _undescribed(info: Info, files: Sequence[Path]) -> list[Note]:
    """Videos that are there of views that info.json does not name."""
    odd = [file for file in files if not info.features.keys() & set(file.relative_to(info.path / "videos").parts)]
    if not odd:
        return []
    told = f"{odd[0]}: is of a view that {info.file} does not describe, and is not read; {len(odd)} in all are so"
    return [Note("left out", told)]


def _counts(info: Info, listing: Listing, entries: Sequence[EpisodeEntry], lost: Mapping[int, str]) -> list[Note]:
    """Whether info.json counts other numbers than there are."""
    there = {"episodes": len(entries) + len(lost)}
    if not lost and listing.whole and all(one.length for one in listing.episodes.values()):
        there["frames"] = sum(one.length or 0 for one in listing.episodes.values())
    said = info.totals
    return [
        Note("mended", f"{info.file}: says {said[name]} {name}, but there are {count}; what is there counts")
        for name, count in there.items()
        if name in said and said[name] != count
    ]


def _statistics(info: Info) -> list[Note]:
    """Whether the ranges that others normalise by are there; this project makes its own."""
    if any((info.path / file).is_file() for file in (spec.STATS, *([OLD_STATS] if info.old else []))):
        return []
    told = "is missing; statistics are made from the data, and check --repair writes them"
    return [Note("assumed", f"{info.path / (OLD_STATS if info.old else spec.STATS)}: {told}")]
