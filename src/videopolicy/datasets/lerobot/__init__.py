"""Reads a LeRobotDataset v3.0 (see `lerobot_layout`) or v2.1 (see `lerobot_index`), whoever recorded it."""

import hashlib
import json
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from videopolicy.datasets.base import SAME_RATE
from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.index import EpisodeEntry, described_by, read_entries, read_info, read_tasks, sound
from videopolicy.datasets.lerobot.rows import TableRows, pictures, vectors
from videopolicy.errors import UserError, unknown
from videopolicy.media import Decoder
from videopolicy.types import Episode, Frames

# v2.1 has a file for each episode and view: more than a process may keep open.
_OPEN_FILES = 24
# What others call the actions and the state.
_ACTIONS, _STATES = (spec.ACTION, "actions"), (spec.STATE, "state")


def open_dataset(path: Path) -> "LeRobot":
    """Opens a data set: reads its description, no rows (but of episodes with several instructions) and no videos.

    Raises:
        UserError: not a LeRobotDataset v3.0 or v2.1, no episodes, or a file is missing or damaged; the message names
            the file.
    """
    return LeRobot(Path(path))


def recognises(path: Path) -> bool:
    """Whether a folder is in this format, by the names in it (see `videopolicy.datasets.formats`)."""
    return (path / spec.INFO).is_file()


class LeRobot:
    """A `videopolicy.datasets.base.Dataset`. Safe to send to other processes: each opens its own files.

    An episode has one instruction here. Where the tables give it several, it is the one of most steps.
    """

    def __init__(self, path: Path):
        self.path = path
        info = read_info(path)
        self.fps = float(info["fps"])
        self._files: OrderedDict[tuple[int, Path], Any] = OrderedDict()
        with sound(f"{path / spec.INFO}: not the description of a LeRobot data set"):
            self._features: dict[str, dict[str, Any]] = info["features"]
            cameras, left_out = _cameras(self._features)
            # What a conversion left out, it left out for everyone who reads the result.
            self.skipped = (*map(str, info.get(spec.SKIPPED, ())), *left_out)
            self._keys = _view_names(cameras)
            self._vectors = {kind: self._named(names) for kind, names in (("action", _ACTIONS), ("state", _STATES))}
            self.action_width, self.state_width = map(self._width, self._vectors.values())
        self.views = tuple(self._keys)
        if not self.views:
            raise UserError(f"{path / spec.INFO}: no feature of type video or image that is no depth map")
        layouts = (info.get(name) for name in (spec.ACTION_LAYOUT, spec.STATE_LAYOUT))
        self.action_layout, self.state_layout = (layout if isinstance(layout, str) else "" for layout in layouts)
        videos = [key for key in cameras if self._features[key]["dtype"] == "video"]
        self._episodes = read_entries(path, info, videos)
        self._tasks = read_tasks(path, info)
        self._settle_instructions()
        used = {entry.tasks[0] for entry in self._episodes}
        self.tasks = tuple(dict.fromkeys(task for task in self._tasks.values() if task in used))
        self.fingerprint = self._hash([path / spec.INFO, *described_by(path, info)])

    def __len__(self) -> int:
        return len(self._episodes)

    def length(self, index: int) -> int:
        """The control steps of one episode, without decoding it."""
        return self._episodes[index].length

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
        with sound(f"{self.path}: episode {index} is not as {spec.INFO} describes it"):
            found = self._read_vectors(entry, start, last)
            frames = {view: self._frames(entry, self._keys[view], start, last) for view in chosen}
        return Episode(
            frames,
            entry.tasks[0],
            self.fps,
            found["action"],
            found["state"],
            entry.task,
            entry.success,
            entry.seed,
        )

    def timestamps(self, index: int) -> np.ndarray | None:
        """Seconds of each step of one episode, (N,); None if the tables do not say."""
        entry = self._episodes[index]
        rows = self._rows(entry)
        if "timestamp" not in rows.names:
            return None
        with sound(f"{entry.data}: the time stamps of episode {entry.index} are not numbers"):
            return vectors(rows.read(["timestamp"], *rows.span(entry.index))["timestamp"], 1)[:, 0]

    def declared_range(self) -> np.ndarray | None:
        """The smallest and the largest action by the data set's own statistics, (2, D); None if it has none."""
        name, file = self._vectors["action"], self.path / spec.STATS
        if name is None or not file.is_file():
            return None
        with sound(f"{file}: not the statistics of the features of {spec.INFO}"):
            said = json.loads(file.read_text(encoding="utf-8")).get(name)
            if said is None:
                return None
            return np.array([said["min"], said["max"]], np.float64).reshape(2, self._width(name) or 0)

    def close(self) -> None:
        """Closes the files that reading has opened."""
        while self._files:
            self._files.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    def _read_vectors(self, entry: EpisodeEntry, start: int, stop: int) -> dict[str, np.ndarray | None]:
        rows = self._rows(entry)
        first, _ = rows.span(entry.index)
        names = [name for name in self._vectors.values() if name is not None]
        table = rows.read([*names, "task_index"], first + start, first + stop)
        for task in set(self._instructions(entry, table)):
            if task not in entry.tasks:
                said = f"episode {entry.index} is {task!r} here, but {entry.tasks[0]!r} in the table of episodes"
                raise UserError(f"{entry.data}: {said}")
        found = {kind: self._finite(entry, name, table, start) for kind, name in self._vectors.items() if name}
        return {kind: found.get(kind) for kind in self._vectors}

    def _finite(self, entry: EpisodeEntry, name: str, table: pa.Table, start: int) -> np.ndarray:
        with sound(f"{entry.data}: {name} of episode {entry.index} is not as {spec.INFO} describes it"):
            values = vectors(table[name], self._width(name) or 0)
        if not np.isfinite(values).all():
            bad = start + int(np.nonzero(~np.isfinite(values).all(1))[0][0])
            raise UserError(f"{entry.data}: {name} of episode {entry.index}, step {bad}, is NaN or infinite")
        return values

    def _frames(self, entry: EpisodeEntry, key: str, start: int, stop: int) -> Frames:
        if key not in entry.videos:
            rows = self._rows(entry)
            first, _ = rows.span(entry.index)
            with sound(f"{entry.data}: {key} of episode {entry.index}, steps {start} to {stop - 1}"):
                return pictures(rows.read([key], first + start, first + stop)[key], self._features[key]["shape"])
        footage = entry.videos[key]
        if footage.count is not None and footage.count < entry.length:
            few = f"{footage.count} frames of episode {entry.index}, but it has {entry.length} steps"
            raise UserError(f"{footage.file}: the tables give it {few}")
        decoder = self._opened(footage.file, Decoder)
        if abs(decoder.fps - self.fps) > SAME_RATE * self.fps:
            said = f"{decoder.fps:g} frames a second, but the data set says {self.fps:g}"
            raise UserError(f"{footage.file}: {said}")
        return decoder.read(footage.first + start, footage.first + stop)

    def _rows(self, entry: EpisodeEntry) -> TableRows:
        """The file of an episode's rows, which has been found to agree with the tables."""
        rows: TableRows = self._opened(entry.data, TableRows)
        first, last = rows.span(entry.index)
        if last - first != entry.length:
            found = f"{last - first} rows of episode {entry.index}, but it has {entry.length} steps"
            raise UserError(f"{entry.data}: {found}")
        for name in (*_ACTIONS, *_STATES):
            if name in rows.names and name not in self._features:
                raise UserError(f"{entry.data}: has the column {name!r}, which {spec.INFO} does not describe")
        return rows

    def _opened(self, file: Path, reader: Callable[[Path], Any]) -> Any:
        # Forked processes would share the open file's position; so each has its own.
        place = (os.getpid(), file)
        if place not in self._files:
            self._files[place] = reader(file)
        self._files.move_to_end(place)
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return self._files[place]

    def _settle_instructions(self) -> None:
        """Gives each episode one instruction, the one of most steps, and says where that was a choice."""
        several = [number for number, entry in enumerate(self._episodes) if len(entry.tasks) != 1]
        for number in several:
            entry = self._episodes[number]
            rows = self._rows(entry)
            counts = Counter(self._instructions(entry, rows.read(["task_index"], *rows.span(entry.index))))
            # The table's own list has no order; of equals, the first one seen is taken.
            self._episodes[number] = replace(entry, tasks=tuple(task for task, _ in counts.most_common()))
        several = [number for number in several if len(self._episodes[number].tasks) > 1]
        if several:
            which = f"episode {several[0]}" + (f" and {len(several) - 1} more" if several[1:] else "")
            self.skipped += (f"{which}: several instructions; the one of most steps is used",)

    def _instructions(self, entry: EpisodeEntry, table: pa.Table) -> list[str]:
        numbers = table["task_index"].to_pylist()
        missing = set(numbers) - self._tasks.keys()
        if missing:
            raise UserError(f"{entry.data}: task_index {missing.pop()} is not in the data set's table of instructions")
        return [self._tasks[number] for number in numbers]

    def _named(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self._features), None)

    def _width(self, name: str | None) -> int | None:
        return None if name is None else int(np.prod(self._features[name]["shape"], dtype=int))

    def _hash(self, files: list[Path]) -> str:
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes())
        for folder in ("data", "videos"):
            for file in sorted((self.path / folder).rglob("*.*")):
                digest.update(f"{file.relative_to(self.path)} {file.stat().st_size}".encode())
        return digest.hexdigest()[:16]


def _cameras(features: dict[str, dict[str, Any]]) -> tuple[list[str], tuple[str, ...]]:
    """The features that are views, and what is left out."""
    cameras, skipped = [], []
    for key, feature in features.items():
        if feature["dtype"] not in ("video", "image"):
            if len(feature["shape"]) == 3:
                skipped.append(f"{key}: of type {feature['dtype']}; of pictures, video and image are read")
            continue
        about = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
        if about.get("is_depth_map") or about.get("video.is_depth_map"):
            skipped.append(f"{key}: a depth map; only pictures in colour are read")
        else:
            cameras.append(key)
    return cameras, tuple(skipped)


def _view_names(cameras: Sequence[str]) -> dict[str, str]:
    """View -> feature key; short names, where they are not taken twice."""
    short = Counter(map(spec.view_name, cameras))
    return {spec.view_name(key) if short[spec.view_name(key)] == 1 else key: key for key in cameras}
