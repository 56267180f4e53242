"""Reads a LeRobotDataset v3.0 (see `spec`), v2.1 or v2.0 (see `listing`), whoever recorded it."""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from videopolicy.datasets.files import read_text, visible
from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.faults import sound
from videopolicy.datasets.lerobot.listing import described_by
from videopolicy.datasets.lerobot.opening import EpisodeEntry, open_files
from videopolicy.datasets.lerobot.rows import TableRows, pictures, vectors
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError, unknown
from videopolicy.media import Decoder
from videopolicy.types import Episode, Frames

# v2.1 has a file for each episode and view: more than a process may keep open.
_OPEN_FILES = 24


def open_dataset(path: Path, reading: Reading = AS_IT_IS) -> "LeRobot":
    """Opens a data set: holds its descriptions against its files, and decodes none of its videos.

    Raises:
        UserError: not a LeRobotDataset v2.0 to v3.0, or no episode of it can be read; the message names the file.
    """
    reading.refuse_all_but(path, "action_columns", "state_columns")
    return LeRobot(Path(path), reading)


def recognises(path: Path) -> bool:
    """Whether a folder is in this format, by the names in it (see `videopolicy.datasets.formats`)."""
    return (path / spec.INFO).is_file()


class LeRobot:
    """A `videopolicy.datasets.base.Dataset`. Safe to send to other processes: each opens its own files.

    An episode has one instruction here. Where the tables give it several, it is the one of most steps.
    """

    def __init__(self, path: Path, reading: Reading = AS_IT_IS):
        self.path = path
        self._files: OrderedDict[tuple[int, Path], Any] = OrderedDict()
        opened = open_files(path, reading)
        self.notes, self._episodes, self._tasks = opened.notes, opened.entries, opened.tasks
        info, self._columns = opened.info, opened.columns
        self.fps, self._features = info.fps, info.features
        self._keys = dict(opened.columns.views)
        self.views = tuple(self._keys)
        self.action_width, self.state_width = map(self._width, (self._columns.action, self._columns.state))
        self.action_layout, self.state_layout = info.layouts["action"], info.layouts["state"]
        used = {entry.tasks[0] for entry in self._episodes}
        self.tasks = tuple(dict.fromkeys((*(task for task in self._tasks.values() if task in used), *sorted(used))))
        self.fingerprint = self._hash([path / spec.INFO, *described_by(info)], reading)

    def __len__(self) -> int:
        return len(self._episodes)

    def length(self, index: int) -> int:
        """The control steps of one episode, without decoding it."""
        return self._episodes[index].length

    def number(self, index: int) -> int:
        """What the files call an episode; see `Dataset.number`."""
        return self._episodes[index].index

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its steps start to stop - 1, with only these views decoded (every view if None).

        Raises:
            UserError: unknown view; a file is missing, damaged, or disagrees with the tables; actions or states are
                not finite.
        """
        entry = self._episodes[index]
        last = entry.length if stop is None else min(stop, entry.length)
        chosen = self.views if views is None else views
        for view in chosen:
            if view not in self._keys:
                raise unknown("view", view, self.views)
        with sound(f"{self.path}: episode {entry.index} is not as {spec.INFO} describes it"):
            actions, states = self._read_vectors(entry, start, last)
            frames = {view: self._frames(entry, self._keys[view], start, last) for view in chosen}
        return Episode(
            frames,
            entry.tasks[0],
            self.fps,
            actions,
            states,
            entry.task,
            entry.success,
            entry.seed,
            entry.labelled_by,
            entry.confidence,
        )

    def timestamps(self, index: int) -> np.ndarray | None:
        """Seconds of each step of one episode, (N,); None if the tables do not say."""
        entry = self._episodes[index]
        rows: TableRows = self._opened(entry.data, TableRows)
        if "timestamp" not in rows.names:
            return None
        with sound(f"{entry.data}: the time stamps of episode {entry.index} are not numbers"):
            read = rows.read(["timestamp"], entry.first, entry.first + entry.length)
            return vectors(read["timestamp"], 1)[:, 0]

    def declared_range(self) -> np.ndarray | None:
        """The smallest and the largest action by the data set's own statistics, (2, D); None if it has none."""
        file = self.path / spec.STATS
        if not self._columns.action or not file.is_file():
            return None
        with sound(f"{file}: not the statistics of the features of {spec.INFO}"):
            said = json.loads(read_text(file))
            if isinstance(said, dict) and not all(name in said for name in self._columns.action):
                return None
            ends = [[np.ravel(said[name][end]) for name in self._columns.action] for end in ("min", "max")]
            return np.array([np.concatenate(parts) for parts in ends], np.float64).reshape(2, self.action_width or 0)

    def close(self) -> None:
        """Closes the files that reading has opened."""
        while self._files:
            self._files.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    def _read_vectors(self, entry: EpisodeEntry, start: int, stop: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        rows: TableRows = self._opened(entry.data, TableRows)
        table = rows.read([*self._columns.action, *self._columns.state], entry.first + start, entry.first + stop)
        return self._joined(entry, self._columns.action, table, start), self._joined(
            entry, self._columns.state, table, start
        )

    def _joined(self, entry: EpisodeEntry, names: Sequence[str], table: pa.Table, start: int) -> np.ndarray | None:
        parts = [self._finite(entry, name, table, start) for name in names]
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0] if parts else None

    def _finite(self, entry: EpisodeEntry, name: str, table: pa.Table, start: int) -> np.ndarray:
        with sound(f"{entry.data}: {name} of episode {entry.index} is not as {spec.INFO} describes it"):
            values = vectors(table[name], self._features[name].width)
        if not np.isfinite(values).all():
            bad = start + int(np.nonzero(~np.isfinite(values).all(1))[0][0])
            raise UserError(
                f"{entry.data}: {name} has a value that is NaN or infinite at step {bad} of episode {entry.index}"
            )
        return values

    def _frames(self, entry: EpisodeEntry, key: str, start: int, stop: int) -> Frames:
        if key not in entry.videos:
            rows: TableRows = self._opened(entry.data, TableRows)
            with sound(f"{entry.data}: {key} of episode {entry.index}, steps {start} to {stop - 1}"):
                read = rows.read([key], entry.first + start, entry.first + stop)
                return pictures(read[key], self._features[key].shape)
        footage = entry.videos[key]
        decoder: Decoder = self._opened(footage.file, Decoder)
        return decoder.read(footage.first + start, footage.first + stop)

    def _opened(self, file: Path, reader: Callable[[Path], Any]) -> Any:
        # Forked processes would share the open file's position; so each has its own.
        place = (os.getpid(), file)
        if place not in self._files:
            self._files[place] = reader(file)
        self._files.move_to_end(place)
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return self._files[place]

    def _width(self, names: Sequence[str]) -> int | None:
        return sum(self._features[name].width for name in names) if names else None

    def _hash(self, files: list[Path], reading: Reading) -> str:
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes() if file.is_file() else b"")
        for folder in ("data", "videos"):
            for file in visible(self.path / folder):
                digest.update(os.fsencode(f"{file.relative_to(self.path)} {_size(file)}"))
        columns = (reading.action_columns, reading.state_columns)
        if any(columns):
            digest.update(repr(columns).encode())
        return digest.hexdigest()[:16]


def _size(file: Path) -> int:
    """Bytes of a file; 0 if it is a link to nothing."""
    return file.stat().st_size if file.exists() else 0
