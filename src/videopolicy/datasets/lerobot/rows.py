"""The rows of one parquet file of a LeRobotDataset: part by part, so that a file of any length fits."""

from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from videopolicy.errors import UserError
from videopolicy.types import Frames

# Rows decoded at a time: of numbers, and of pictures, which are files of up to a megabyte each.
_NUMBERS, _PICTURES = 8192, 32


class TableRows:
    """One data file, which stays open. Its rows are one control step each, in order within an episode.

    Raises:
        UserError: the file is missing or damaged, or an episode's rows are not in one piece and in order.
    """

    def __init__(self, file: Path):
        self._file = file
        self._table = _guarded(file, lambda: pq.ParquetFile(file, page_checksum_verification=True))
        self.names = self._table.schema_arrow.names
        groups = [self._table.metadata.row_group(i).num_rows for i in range(self._table.num_row_groups)]
        self._bounds = np.concatenate([[0], np.cumsum(groups)]).astype(int)
        self._spans = _guarded(file, self._find_episodes)

    def span(self, episode: int) -> tuple[int, int]:
        """The first row of an episode, and the one after its last; both 0 if the file has none of it."""
        return self._spans.get(episode, (0, 0))

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

    def _find_episodes(self) -> dict[int, tuple[int, int]]:
        names = ["episode_index", *(["frame_index"] if "frame_index" in self.names else [])]
        table = self.read(names, 0, int(self._bounds[-1]))
        columns = {name: _guarded(self._file, table[name].to_numpy) for name in names}
        numbers = columns["episode_index"]
        if not len(numbers):
            return {}
        cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        spans = {int(numbers[a]): (a, b) for a, b in pairwise(cuts)}
        if len(spans) != len(cuts) - 1:
            raise UserError(f"{self._file}: the rows of an episode are not in one piece")
        steps = np.diff(columns.get("frame_index", np.arange(len(numbers))))
        if (steps[np.diff(numbers) == 0] != 1).any():
            raise UserError(f"{self._file}: the frame_index of an episode does not count its rows up, one by one")
        return spans


def vectors(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """A column of numbers, or of vectors or arrays of them, as (N, width) float32.

    Raises:
        ValueError: it holds something else, or its rows are not all of this width.
    """
    count = len(column)
    values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    while not pa.types.is_primitive(values.type):
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
            continue
        lengths = pc.call_function("list_value_length", [values]).to_numpy(zero_copy_only=False)
        if len(np.unique(lengths)) > 1 or values.null_count:
            raise ValueError("rows of different widths")
        values = values.flatten()
    found = len(values) // max(count, 1)
    if count and found != width:
        raise ValueError(f"{found} wide, not {width}")
    with np.errstate(over="ignore"):
        return values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(count, width)


def pictures(column: pa.ChunkedArray, shape: Sequence[int]) -> Frames:
    """A column of PNG or JPEG files as frames, (N, H, W, 3).

    Args:
        column: structs of the files' `bytes`, and their `path` where they lay before.
        shape: (H, W, 3) or (3, H, W), as info.json says.

    Raises:
        ValueError: a picture is missing, damaged, or of another size.
    """
    sizes = {tuple(shape[:2]), tuple(shape[1:])}
    frames: list[np.ndarray] = []
    for row in column:
        content = row["bytes"].as_py()
        if content is None:
            raise ValueError("the pictures are not in the table; write them into it, as lerobot does on saving")
        frames.append(_picture(content, sizes))
    if not frames:
        height, width = next(size for size in sizes if 3 not in size or len(sizes) == 1)
        return np.empty((0, height, width, 3), np.uint8)
    return np.stack(frames)


def _picture(content: bytes, sizes: set[tuple[int, ...]]) -> np.ndarray:
    try:
        with Image.open(BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
            if picture.size[::-1] not in sizes:
                raise ValueError(f"a picture of {picture.size[0]} x {picture.size[1]} pixels")
            if picture.mode.startswith(("I", "F")):
                raise ValueError("a picture of 16 bits or more a colour; a depth map needs is_depth_map in info.json")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # each format's decoder fails in its own way
        raise ValueError(f"a picture that cannot be decoded: {error}") from error


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
        said = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{file}: not a readable parquet file; it is cut short or damaged ({said})") from error
