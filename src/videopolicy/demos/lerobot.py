"""Reads a LeRobotDataset v3.0 (see `lerobot_layout`), whoever recorded it."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy.demos import lerobot_layout as layout
from videopolicy.errors import UserError, unknown
from videopolicy.media import Decoder
from videopolicy.types import Episode, Frames


def open_dataset(path: Path) -> "LeRobot":
    """Opens a data set: reads its description, no rows and no videos.

    Raises:
        UserError: not a LeRobotDataset v3.0, no episodes, or a file is missing or damaged; the message names the file.
    """
    return LeRobot(Path(path))


def recognises(path: Path) -> bool:
    """Whether a folder is in this format, by the names in it (see `videopolicy.demos.formats`)."""
    return (path / layout.INFO).is_file()


class LeRobot:
    """A `videopolicy.demos.base.Dataset`. Safe to send to other processes: each opens its own files."""

    def __init__(self, path: Path):
        self.path = path
        info = self._info = _read_info(path)
        with _sound(f"{path / layout.INFO}: not the description of a LeRobot data set"):
            self.fps = float(info["fps"])
            self._keys = {layout.view_name(key): key for key, f in info["features"].items() if f["dtype"] == "video"}
            self.action_width, self.state_width = self._width(layout.ACTION), self._width(layout.STATE)
        self.views = tuple(self._keys)
        self.action_space, self.state_space, self.skipped = "", "", ()
        files = sorted((path / "meta" / "episodes").glob("*/*.parquet"))
        with _sound(f"{path / 'meta' / 'episodes'}: not a table of episodes"):
            self._episodes = _read_episodes(path, files, self._keys.values())
            self._check_counts()
            self.tasks = tuple(dict.fromkeys(row["tasks"][0] for row in self._episodes))
        self.fingerprint = self._hash(files)
        self._decoders: dict[tuple[int, Path], Decoder] = {}
        self._rows: tuple[Path, dict[str, np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self._episodes)

    def length(self, index: int) -> int:
        """The control steps of one episode, without decoding it."""
        return self._episodes[index]["length"]

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its steps start to stop - 1, with only these views decoded (every view if None).

        Raises:
            UserError: unknown view; a file is missing, damaged, or disagrees with the tables; actions or states are
                not finite.
        """
        row = self._episodes[index]
        last = row["length"] if stop is None else min(stop, row["length"])
        with _sound(f"{self.path}: episode {index} is not as {layout.INFO} describes it"):
            vectors = {name: values[start:last] for name, values in self._vectors(index).items()}
            chosen = self.views if views is None else views
            frames = {view: self._frames(row, view, start, last) for view in chosen}
        return Episode(
            frames,
            row["tasks"][0],
            self.fps,
            vectors.get(layout.ACTION),
            vectors.get(layout.STATE),
            row.get(layout.EPISODE_TASK) or "",
            row.get(layout.EPISODE_SUCCESS),
            row.get(layout.EPISODE_SEED),
        )

    def close(self) -> None:
        """Closes the video files that reading has opened."""
        for decoder in self._decoders.values():
            decoder.close()
        self._decoders.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoders": {}, "_rows": None}

    def _frames(self, row: dict[str, Any], view: str, start: int, stop: int) -> Frames:
        if view not in self._keys:
            raise unknown("view", view, self.views)
        key = self._keys[view]
        file = self._file(self._info["video_path"], row, f"videos/{key}", video_key=key)
        # Forked processes would share the open file's position; so each has its own.
        decoder = self._decoders.get((os.getpid(), file))
        if decoder is None:
            decoder = self._decoders[os.getpid(), file] = Decoder(file)
            if abs(decoder.fps - self.fps) > 0.01 * self.fps:
                raise UserError(f"{file}: {decoder.fps:g} frames a second, but the data set says {self.fps:g}")
        first = round(row[f"videos/{key}/from_timestamp"] * self.fps)
        return decoder.read(first + start, first + stop)

    def _vectors(self, index: int) -> dict[str, np.ndarray]:
        row = self._episodes[index]
        file = self._file(self._info["data_path"], row, "data")
        if self._rows is None or self._rows[0] != file:
            names = [name for name in (layout.ACTION, layout.STATE) if self._width(name) is not None]
            self._rows = (file, _read_rows(file, names))
        columns = self._rows[1]
        for name, values in columns.items():
            if name != "episode_index" and values.shape[1] != self._width(name):
                raise UserError(f"{file}: {name} is {values.shape[1]} wide, but {layout.INFO} says {self._width(name)}")
        first, last = np.searchsorted(columns["episode_index"], [row["episode_index"], row["episode_index"] + 1])
        if last - first != row["length"]:
            raise UserError(f"{file}: {last - first} rows of episode {index}, but it has {row['length']} steps")
        result = {name: values[first:last].copy() for name, values in columns.items() if name != "episode_index"}
        for name, values in result.items():
            if not np.isfinite(values).all():
                bad = int(np.nonzero(~np.isfinite(values).all(1))[0][0])
                raise UserError(f"{file}: {name} of episode {index}, step {bad}, is NaN or infinite")
        return result

    def _file(self, template: str, row: dict[str, Any], prefix: str, **names: str) -> Path:
        where = {name: row[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")}
        return self.path / template.format(**names, **where)

    def _width(self, name: str) -> int | None:
        feature = self._info["features"].get(name)
        return None if feature is None else int(feature["shape"][0])

    def _check_counts(self) -> None:
        if not self._episodes:
            raise UserError(f"{self.path}: holds no episodes")
        if not self.views:
            raise UserError(f"{self.path / layout.INFO}: no feature of type video; views stored as images are not read")
        rows = sum(row["length"] for row in self._episodes)
        for name, found in (("episodes", len(self._episodes)), ("frames", rows)):
            if self._info[f"total_{name}"] != found:
                said = self._info[f"total_{name}"]
                raise UserError(f"{self.path / layout.INFO}: says {said} {name}, but meta/episodes lists {found}")

    def _hash(self, files: list[Path]) -> str:
        digest = hashlib.sha256()
        for file in (self.path / layout.INFO, *files):
            digest.update(file.read_bytes())
        for folder in ("data", "videos"):
            for file in sorted((self.path / folder).rglob("*.*")):
                digest.update(f"{file.relative_to(self.path)} {file.stat().st_size}".encode())
        return digest.hexdigest()[:16]


@contextmanager
def _sound(otherwise: str) -> Iterator[None]:
    """Whoever wrote the data set: what is odd in it makes each part of the reading fail in a way of its own."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{otherwise} ({error!r})") from error


def _read_info(path: Path) -> dict[str, Any]:
    file = path / layout.INFO
    if not path.is_dir():
        raise UserError(f"{path}: no such data set; give a folder that `videopolicy record` wrote")
    try:
        info = json.loads(file.read_text())
        version, missing = info["codebase_version"], {"fps", "features", "data_path"} - info.keys()
    except FileNotFoundError as error:
        raise UserError(f"{path}: not a LeRobot data set; {layout.INFO} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the description of a LeRobot data set ({error!r})") from error
    if not str(version).startswith("v3."):
        raise UserError(f"{file}: version {version} of the format, but v3.0 is needed; lerobot converts older ones")
    if missing:
        raise UserError(f"{file}: lacks {', '.join(sorted(missing))}")
    return info


def _read_episodes(path: Path, files: list[Path], keys: Iterable[str]) -> list[dict[str, Any]]:
    needed = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
    for key in keys:
        needed += [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    own = [layout.EPISODE_TASK, layout.EPISODE_SUCCESS, layout.EPISODE_SEED]
    if not files:
        raise UserError(f"{path}: holds no episodes; meta/episodes has no parquet file")
    rows: list[dict[str, Any]] = []
    for file in files:
        names = _schema(file)
        rows += _read_table(file, needed + [name for name in own if name in names]).to_pylist()
    return sorted(rows, key=lambda row: row["episode_index"])


def _read_rows(file: Path, names: list[str]) -> dict[str, np.ndarray]:
    table = _read_table(file, [*names, "episode_index"])
    columns = {}
    for name in names:
        column = table[name].combine_chunks()
        if isinstance(column, pa.ListArray | pa.FixedSizeListArray):
            column = column.flatten()
        columns[name] = column.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)
    return columns | {"episode_index": table["episode_index"].to_numpy()}


def _read_table(file: Path, names: list[str]) -> pa.Table:
    missing = [name for name in names if name not in _schema(file)]
    if missing:
        raise UserError(f"{file}: lacks the column {missing[0]!r}")
    try:
        return pq.read_table(file, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _schema(file: Path) -> list[str]:
    try:
        return pq.read_schema(file).names
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file, but the data set needs it") from error
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file}: not a readable parquet file; it is cut short or damaged ({str(error).splitlines()[0]})")
