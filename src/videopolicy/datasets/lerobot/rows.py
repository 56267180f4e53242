"""The rows of one parquet file of a LeRobotDataset: part by part, so that a file of any length fits."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videopolicy.datasets.lerobot.faults import OddError
from videopolicy.datasets.pictures import DamagedPictureError, is_deep, opened
from videopolicy.errors import UserError
from videopolicy.pointers import refuse_pointer
from videopolicy.types import Frames

# Rows decoded at a time: of numbers, and of pictures, which are files of up to a megabyte each.
_NUMBERS, _PICTURES = 8192, 32


@dataclass(frozen=True)
class RowRange:
    """The rows of one episode.

    Attributes:
        start: the first one's place in the file.
        stop: after the last one.
        first: the frame_index of the first one, 0 if there are none.
        tasks: its different task_index, those of most rows first; () if the rows have none.
    """

    start: int
    stop: int
    first: int
    tasks: tuple[int, ...]


class TableRows:
    """One data file, which stays open. Its rows are one control step each, in order within an episode.

    Attributes:
        names: its columns.

    Raises:
        UserError: the file is missing or damaged.
    """

    def __init__(self, file: Path):
        self._file = file
        self._table = _guarded(file, lambda: pq.ParquetFile(file, page_checksum_verification=True))
        self.names = self._table.schema_arrow.names
        groups = [self._table.metadata.row_group(i).num_rows for i in range(self._table.num_row_groups)]
        self._bounds = np.concatenate([[0], np.cumsum(groups)]).astype(int)

    @property
    def schema(self) -> pa.Schema:
        """The columns with their types."""
        return self._table.schema_arrow

    def read(self, names: Sequence[str], start: int, stop: int) -> pa.Table:
        """These columns of rows start to stop - 1.

        Raises:
            UserError: a column is missing, or the file is damaged.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise UserError(f"{self._file}: lacks the column {missing[0]!r}")
        groups = [i for i, (a, b) in enumerate(pairwise(self._bounds)) if a < stop and b > start]
        at = self._bounds[groups[0]] if groups else 0
        table = _guarded(self._file, lambda: self._take(list(names), groups, start - at, stop - at))
        if len(table) != max(stop - start, 0):
            raise UserError(f"{self._file}: {len(table)} rows where {stop - start} should be; the file is damaged")
        return table

    def close(self) -> None:
        """Closes the file."""
        self._table.close()

    def _take(self, names: list[str], groups: list[int], start: int, stop: int) -> pa.Table:
        parts, at = [], 0
        fields = [self._table.schema_arrow.field(name) for name in names]
        rows = _PICTURES if any(pa.types.is_struct(field.type) for field in fields) else _NUMBERS
        for batch in self._table.iter_batches(rows, groups, names, use_threads=False) if groups else ():
            if at < stop and at + len(batch) > start:
                part = batch.slice(max(start - at, 0), min(stop, at + len(batch)) - max(start, at)).select(names)
                part.validate(full=True)
                parts.append(part)
            at += len(batch)
            if at >= stop:
                break
        return pa.Table.from_batches(parts, pa.schema(fields)) if not parts else pa.Table.from_batches(parts)

    def episodes(self) -> tuple[dict[int, RowRange], dict[int, str]]:
        """The rows of each episode; and of some, why they cannot be told from others.

        Raises:
            UserError: the file is damaged, or does not number its rows.
        """
        return _guarded(self._file, self._find_episodes)

    def _find_episodes(self) -> tuple[dict[int, RowRange], dict[int, str]]:
        names = ["episode_index", *(name for name in ("frame_index", "task_index") if name in self.names)]
        table = self.read(names, 0, int(self._bounds[-1]))
        columns = {name: table[name].to_numpy() for name in names}
        for name, values in columns.items():
            if values.dtype.kind not in "iu":
                raise UserError(f"{self._file}: {name} is no whole number in every row; it is damaged")
        numbers = columns["episode_index"]
        if not len(numbers):
            return {}, {}
        cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        runs, faults = dict[int, RowRange](), dict[int, str]()
        for start, stop in pairwise(cuts):
            episode = int(numbers[start])
            steps = columns.get("frame_index", np.arange(len(numbers)))[start:stop]
            if episode in runs:
                faults[episode] = "the rows of an episode are not in one piece"
            elif (np.diff(steps) != 1).any():
                faults[episode] = "the frame_index of an episode does not count its rows up, one by one"
            tasks = Counter(columns["task_index"][start:stop].tolist()) if "task_index" in columns else Counter()
            runs[episode] = RowRange(start, stop, int(steps[0]), tuple(task for task, _ in tasks.most_common()))
        return runs, faults


def vectors(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """A column of numbers, or of vectors or arrays of them, as (N, width) float32.

    Raises:
        OddError: it holds something else, or its rows are not all of this width.
    """
    count = len(column)
    values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    while not pa.types.is_primitive(values.type):
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
            continue
        lengths = pc.call_function("list_value_length", [values]).to_numpy(zero_copy_only=False)
        if len(np.unique(lengths)) > 1 or values.null_count:
            raise OddError("rows of different widths")
        values = values.flatten()
    found = len(values) // max(count, 1)
    if count and found != width:
        raise OddError(f"{found} wide, not {width}")
    with np.errstate(over="ignore"):
        return values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(count, width)


def pictures(column: pa.ChunkedArray, shape: Sequence[int]) -> Frames:
    """A column of PNG or JPEG files as frames, (N, H, W, 3).

    Args:
        column: structs of the files' `bytes`, and their `path` where they lay before.
        shape: (H, W, 3) or (3, H, W), as info.json says.

    Raises:
        OddError: a picture is missing, damaged, or of another size.
    """
    sizes = {tuple(shape[:2]), tuple(shape[1:])}
    frames: list[np.ndarray] = []
    for row in column:
        content = row["bytes"].as_py()
        if content is None:
            raise OddError("the pictures are not in the table; write them into it, as lerobot does on saving")
        frames.append(_picture(content, sizes))
    if not frames:
        height, width = next(size for size in sizes if 3 not in size or len(sizes) == 1)
        return np.empty((0, height, width, 3), np.uint8)
    return np.stack(frames)


def _picture(content: bytes, sizes: set[tuple[int, ...]]) -> np.ndarray:
    try:
        picture = opened(content)
    except DamagedPictureError as error:
        raise OddError("a picture that cannot be decoded; it is cut short or damaged") from error
    if picture.size[::-1] not in sizes:
        raise OddError(f"a picture of {picture.size[0]} x {picture.size[1]} pixels")
    if is_deep(picture):
        raise OddError("a picture of 16 bits or more a colour; a depth map needs is_depth_map in info.json")
    return np.asarray(picture.convert("RGB"))


def read_table(file: Path, names: Sequence[str]) -> pa.Table:
    """These columns of a small parquet file.

    Raises:
        UserError: the file or a column is missing, or it is damaged.
    """
    missing = [name for name in names if name not in schema(file).names]
    if missing:
        raise UserError(f"{file}: lacks the column {missing[0]!r}")

    def read() -> pa.Table:
        table = pq.read_table(file, columns=list(names), page_checksum_verification=True, use_threads=False)
        table.validate(full=True)
        return table.select(list(names))

    return _guarded(file, read)


def schema(file: Path) -> pa.Schema:
    """The columns of a parquet file.

    Raises:
        UserError: the file is missing or damaged.
    """
    return _guarded(file, lambda: pq.read_schema(file))


def _guarded(file: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file, but the data set needs it") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        refuse_pointer(file)
        raise UserError(
            f"{file}: not a readable parquet file; it is cut short or damaged; copy or download it again"
        ) from error


def begins_deep(column: pa.ChunkedArray) -> bool:
    """Whether the first picture of a column has 16 bits or more a colour, as depth maps have.

    Args:
        column: as `pictures` takes it; of what is none, reading an episode will tell.
    """
    first = column[0].as_py() if len(column) else None
    content = first.get("bytes") if isinstance(first, dict) else None
    try:
        return isinstance(content, bytes) and is_deep(opened(content, pixels=False))
    except DamagedPictureError:
        return False


def step_shape(table: TableRows, name: str) -> tuple[int, ...]:
    """The shape of a step's numbers in a column, (1,) if it is one; () if they are no numbers."""
    kind = table.schema.field(name).type
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind):
        if pa.types.is_struct(kind) or pa.types.is_map(kind):
            return ()
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return ()
    try:
        first = table.read([name], 0, 1)[name].to_pylist()
        return np.shape(first[0]) or (1,)
    except (ValueError, IndexError):  # a step of ragged rows; reading an episode will tell
        return ()
