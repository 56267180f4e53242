"""Where the rows of each episode are, whatever the lists say of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from videopolicy.datasets.files import visible
from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.columns import ACTIONS, STATES
from videopolicy.datasets.lerobot.counted import not_as_counted
from videopolicy.datasets.lerobot.info import EPISODES, OLD_EPISODES, Feature, Info
from videopolicy.datasets.lerobot.listing import Listed, Listing, Span
from videopolicy.datasets.lerobot.rows import RowRange, TableRows, begins_deep, step_shape
from videopolicy.datasets.notes import Note
from videopolicy.datasets.phrases import plural
from videopolicy.errors import UserError

# A data file, and the rows of one episode in it.
Place = tuple[Path, RowRange]


@dataclass
class EpisodeRows:
    """The rows of all episodes.

    Attributes:
        found: episode -> its file, and its rows there.
        lost: episode -> why its rows cannot be had.
        features: info.json's, completed by what the files hold.
        notes: what is not as it is said to be.
    """

    features: dict[str, Feature]
    found: dict[int, tuple[Path, RowRange]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def find_rows(info: Info, listing: Listing) -> EpisodeRows:
    """Looks into every data file for the rows of the episodes that are listed, and of those that are not.

    Args:
        info: the description.
        listing: what is listed; episodes that only have rows are added to it.
    """
    rows = EpisodeRows(features=dict(info.features))
    where, broken = dict[int, list[Place]](), dict[Path, str]()
    faults, renamed = dict[int, str](), dict[int, tuple[int, Path]]()
    folder = info.path / "data"
    listed = {one.data for one in listing.episodes.values() if one.data}
    found = {*visible(folder, (".parquet",))}
    described, ends = False, dict[int, int]()
    for file in sorted(found | {file for file in listed if file.is_file()}):
        try:
            table = TableRows(file)
            runs, odd = table.episodes()
        except UserError as error:
            broken[file] = str(error)
            continue
        if not described:
            described = bool(runs)
            if described:
                _describe(info, file, table, rows)
        runs = _runs(info, file, runs, odd, renamed)
        for episode, run in runs.items():
            where.setdefault(episode, []).append((file, run))
        faults |= {episode: f"{file}: {why}" for episode, why in odd.items()}
        rows.notes += not_as_counted(info, file, table, runs, ends)
        table.close()
    faults |= _tell_renamed(renamed, rows)
    stale = [
        one.index for one in listing.episodes.values() if _settle(one, where.pop(one.index, []), broken, rows, folder)
    ]
    if stale:
        told = f"{info.path / _list_of(info)}: names other data files than those that hold the rows of some episodes"
        rows.notes.append(Note("mended", f"{told}; these rows are read from where they are", tuple(stale)))
    _add_unlisted(info, listing, where, rows)
    for episode, why in faults.items():
        if rows.found.pop(episode, None):
            rows.lost[episode] = why
    lonely = set(broken) - listed
    rows.notes += [Note("left out", f"{broken[file]}; which episodes it holds is not known") for file in sorted(lonely)]
    return rows


def _settle(listed: Listed, places: list[Place], broken: Mapping[Path, str], rows: EpisodeRows, folder: Path) -> bool:
    """Finds the rows of an episode; whether they are elsewhere than is said."""
    said = [place for place in places if place[0] == listed.data]
    if said or len(places) == 1:
        rows.found[listed.index] = (said or places)[0]
        return not said and listed.data is not None
    if places:
        files = " and ".join(str(file) for file, _ in places)
        rows.lost[listed.index] = (
            f"{files} hold rows of the same episode, and neither is the file that is named; remove the wrong one"
        )
    elif listed.data and listed.data in broken:
        rows.lost[listed.index] = broken[listed.data]
    elif listed.data and not listed.data.is_file():
        rows.lost[listed.index] = f"{listed.data}: no such file, but the data set needs it"
    else:
        rows.lost[listed.index] = f"{listed.data or folder}: holds no rows of an episode that is listed"
    return False


def _add_unlisted(info: Info, listing: Listing, where: Mapping[int, list[Place]], rows: EpisodeRows) -> None:
    """Episodes that have rows, but are not in the lists: a recording that was killed, or lists that are damaged."""
    added = sorted(index for index in where if index >= 0)
    for index in added:
        rows.found[index] = where[index][0]
        place = index // info.chunks_size, index
        keys = [key for key, feature in info.features.items() if feature.dtype == "video"] if info.old else []
        listing.episodes[index] = Listed(
            index, None, spans={key: Span(info.place("video", *place, key), 0.0, None) for key in keys}
        )
    if added and listing.whole:
        told = f"{info.path / _list_of(info)}: does not list episodes whose rows are there; they are read"
        rows.notes.append(Note("mended", told, tuple(added)))
    listing.episodes = dict(sorted(listing.episodes.items()))


def _runs(
    info: Info,
    file: Path,
    runs: dict[int, RowRange],
    faults: dict[int, str],
    renamed: dict[int, tuple[int, Path]],
) -> dict[int, RowRange]:
    """The rows of the episodes of a file; in v2.1, the file's name says which one it is of.

    Args:
        info: the description.
        file: the file.
        runs: by their own numbers.
        faults: of them; takes up another number, too.
        renamed: takes up an episode whose rows say that they are another one's: which, and the file.
    """
    number = re.search(r"([0-9]+)$", file.stem) if info.old else None
    if number is None or len(runs) != 1 or int(number[1]) in runs:
        return runs
    ((own, run),) = runs.items()
    renamed[int(number[1])] = own, file
    if own in faults:
        faults[int(number[1])] = faults.pop(own)
    return {int(number[1]): run}


def _tell_renamed(renamed: Mapping[int, tuple[int, Path]], rows: EpisodeRows) -> dict[int, str]:
    """Says that files are called otherwise than their rows are numbered, as after a cut; why some are of no use."""
    if sorted(renamed) == sorted(own for own, _ in renamed.values()):
        twisted = "its rows have the episode_index of another file; whether that or its name is right cannot be told"
        return {number: f"{file}: {twisted}; mend the names or episode_index" for number, (_, file) in renamed.items()}
    for number, (_, file) in renamed.items():
        told = "files in it give their rows another episode_index than their names say; the names count"
        rows.notes.append(Note("mended", f"{file.parent}: {told}", (number,)))
    return {}


def _describe(info: Info, file: Path, table: TableRows, rows: EpisodeRows) -> None:
    """Holds the features against the columns of a file that has rows."""
    for name in table.names:
        known = rows.features.get(name)
        if known is None and (name in (*ACTIONS, *STATES) or name.startswith(("action", "observation.state"))):
            if shape := step_shape(table, name):
                rows.features[name] = Feature("float32", shape)
                told = f"{info.file}: does not describe the column {name}; it is read as {_said(shape)} a step"
                rows.notes.append(Note("mended", told))
        elif known is None and pa.types.is_struct(table.schema.field(name).type):
            told = f"{info.file}: does not describe the column {name} of {file}, which may be pictures; it is not read"
            rows.notes.append(Note("left out", told))
        elif known and known.dtype == "image" and begins_deep(table.read([name], 0, 1)[name]):
            rows.features[name] = replace(known, depth=True)
        elif known and not known.picture and name not in spec.INDEX_COLUMNS:
            _correct(info, table, name, known, rows)
    for name, known in list(rows.features.items()):
        if name not in table.names and known.dtype != "video" and name not in spec.INDEX_COLUMNS:
            del rows.features[name]
            told = f"{info.file}: describes {name}, but {file} has no such column; it is left out"
            rows.notes.append(Note("left out", told))


def _correct(info: Info, table: TableRows, name: str, known: Feature, rows: EpisodeRows) -> None:
    shape = step_shape(table, name)
    if shape and Feature("", shape).width != known.width:
        rows.features[name] = replace(known, shape=shape)
        told = f"{info.file}: says that {name} is {known.width} wide, but a row holds {_said(shape)}; these are read"
        rows.notes.append(Note("mended", told))


def _list_of(info: Info) -> Path:
    return OLD_EPISODES if info.old else EPISODES


def _said(shape: tuple[int, ...]) -> str:
    return plural(Feature("", shape).width, "number")
