"""Columns by which others find a step, while this project counts rows: where the two differ, it is told."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from videopolicy.datasets.lerobot.faults import OddError, sound
from videopolicy.datasets.lerobot.info import Info
from videopolicy.datasets.lerobot.rows import RowRange, TableRows, vectors
from videopolicy.datasets.notes import Note
from videopolicy.errors import UserError

# Steps by which a time stamp may be off before the frame nearest to it is another step's.
_OFF = 0.5


Runs = Mapping[int, RowRange]


def not_as_counted(info: Info, file: Path, table: TableRows, runs: Runs, ends: dict[int, int]) -> Iterator[Note]:
    """What the time stamps and the running index of a file's rows say other than their count.

    Args:
        info: the description.
        file: the data file, for words.
        table: the same, open.
        runs: episode -> its rows there.
        ends: episode -> the index after its last row, as far as known; this file's are added.
    """
    for name in ("timestamp", "index"):
        if name not in table.names or not runs:
            continue
        try:
            with sound(f"{file}: the column {name} holds no numbers"):
                values = _numbers(table, name, max(run.stop for run in runs.values()))
        except UserError as error:
            yield Note("mended", f"{error}; its steps are counted instead", tuple(sorted(runs)))
            continue
        if name == "timestamp":
            yield from _times(info, file, runs, values)
        else:
            yield from _indices(file, runs, values, ends)


def _numbers(table: TableRows, name: str, count: int) -> Float[np.ndarray, "N"]:
    column = table.read([name], 0, count)[name]
    values = column.to_numpy()
    if values.dtype.kind not in "iuf":
        values = vectors(column, 1)[:, 0]
    if not np.isfinite(values).all():
        raise OddError("some are missing or infinite")
    return values.astype(np.float64)


def _times(info: Info, file: Path, runs: Runs, times: Float[np.ndarray, "N"]) -> Iterator[Note]:
    off = dict[int, float]()
    for episode, run in runs.items():
        right = (run.first + np.arange(run.stop - run.start)) / info.fps
        worst = float(np.abs(times[run.start : run.stop] - right).max())
        if worst > _OFF / info.fps:
            off[episode] = worst
    if off:
        far = f"{file}: time stamps are up to {max(off.values()):.3g} s off the steps' numbers at {info.fps:g} a second"
        yield Note("mended", f"{far}; the steps are read by their numbers", tuple(sorted(off)))


def _indices(file: Path, runs: Runs, indices: Float[np.ndarray, "N"], ends: dict[int, int]) -> Iterator[Note]:
    odd = list[int]()
    for episode, run in sorted(runs.items()):
        own = indices[run.start : run.stop]
        first = 0 if episode == 0 else ends.get(episode - 1, int(own[0]))
        ends[episode] = first + len(own)
        if (own != first + np.arange(len(own))).any():
            odd.append(episode)
    if odd:
        yield Note("mended", f"{file}: its index does not count the rows of all episodes; they are counted", tuple(odd))
