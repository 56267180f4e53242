"""Puts shards together into one LeRobotDataset v3.0: numbers their episodes through, and writes the tables."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from videopolicy.datasets.lerobot import spec, stats, tables
from videopolicy.datasets.lerobot.shard import Shard, ShardEntry, ShardSchema
from videopolicy.durable import write_bytes, write_text


@dataclass(frozen=True)
class About:
    """What a data set says of itself as a whole.

    Attributes:
        fps: control steps a second.
        action_layout: what an action's dimensions mean (see `videopolicy.actions.layout`), "" if unspecified.
        state_layout: the same of the state.
        notes: what was left out, mended or not used, one line each.
    """

    fps: float
    action_layout: str = ""
    state_layout: str = ""
    notes: tuple[str, ...] = ()


def assemble(shards: Iterable[Shard], about: About, target: Path) -> None:
    """Makes a data set of shards of one kind, which share their videos with it and stay as they are.

    Args:
        shards: in the order that their episodes are to have; some may be empty, not all.
        about: the data set.
        target: its folder.
    """
    assembly = Assembly(about, target, _share)
    for shard in shards:
        if shard.entries:
            assembly.add(shard)
    assembly.finish()


@dataclass
class Assembly:
    """A data set that grows by shards; after each `finish` it is all there.

    Every file appears whole or not at all, and the rows of a shard after all else that is needed to read them, so that
    a reader who comes at any moment finds the episodes of whole shards and no part of another.

    Attributes:
        about: the data set.
        target: its folder.
        place: brings a shard's video to where the data set has it.
        files: shards so far.
        frames: control steps so far.
        kind: of all episodes; None before the first.
        rows: the table of episodes.
        tasks: instruction -> its number.
        columns: the columns of the data files, in parts.
        histograms: of each view.
    """

    about: About
    target: Path
    place: Callable[[Path, Path], None]
    files: int = 0
    frames: int = 0
    kind: ShardSchema | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, int] = field(default_factory=dict)
    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, shard: Shard) -> None:
        """Appends the episodes of a shard, at least one."""
        assert shard.kind is not None
        self.kind = shard.kind
        columns = shard.vectors() | self._index(shard)
        for view in shard.kind.sizes:
            self.place(shard.video(view), self._file(spec.VIDEO, video_key=spec.IMAGES + view))
        write_bytes(self._file(spec.TASKS.as_posix()), tables.to_bytes(tables.of_tasks(list(self.tasks))))
        write_bytes(self._file(spec.DATA), tables.to_bytes(tables.of_rows(columns)))
        columns = {name: values.reshape(len(values), -1) for name, values in columns.items()}
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)
        first = 0
        for entry, counts in zip(shard.entries, shard.histograms(), strict=True):
            steps = {name: values[first : first + entry.length] for name, values in columns.items()}
            self.rows.append(self._row(entry, first, steps, dict(zip(shard.kind.sizes, counts, strict=True))))
            first += entry.length
        self.frames += first
        self.files += 1

    def finish(self) -> None:
        """Writes what is said of all shards together."""
        assert self.kind is not None
        totals = {name: stats.of_parts(parts) for name, parts in self.columns.items()}
        for view, counts in self.histograms.items():
            totals[spec.IMAGES + view] = stats.of_histogram(counts, self.frames)
        episodes = self.target / spec.EPISODES.format(**spec.place(0))
        episodes.parent.mkdir(parents=True, exist_ok=True)
        table = tables.of_episodes(self.rows)
        if not any(row[spec.EPISODE_LABELLED_BY] for row in self.rows):
            table = table.drop_columns([spec.EPISODE_LABELLED_BY, spec.EPISODE_CONFIDENCE])
        write_bytes(episodes, tables.to_bytes(table))
        write_text(self.target / spec.STATS, json.dumps(totals, indent=2))
        write_text(self.target / spec.INFO, json.dumps(self._info(self.kind), indent=2))

    def _index(self, shard: Shard) -> dict[str, np.ndarray]:
        """The columns that number the shard's steps."""
        lengths = [entry.length for entry in shard.entries]
        steps = np.concatenate([np.arange(length) for length in lengths])
        tasks = [self.tasks.setdefault(entry.instruction, len(self.tasks)) for entry in shard.entries]
        columns = {
            "timestamp": steps / self.about.fps,
            "frame_index": steps,
            "episode_index": len(self.rows) + np.repeat(np.arange(len(lengths)), lengths),
            "index": self.frames + np.arange(len(steps)),
            "task_index": np.repeat(tasks, lengths),
        }
        return {name: values.astype(spec.INDEX_COLUMNS[name]) for name, values in columns.items()}

    def _row(
        self, entry: ShardEntry, first: int, steps: dict[str, np.ndarray], counts: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """An episode's row; `first` is its first step in its shard."""
        row: dict[str, Any] = {
            "episode_index": len(self.rows),
            "tasks": [entry.instruction],
            "length": entry.length,
            "dataset_from_index": self.frames + first,
            "dataset_to_index": self.frames + first + entry.length,
            **{f"data/{name}": value for name, value in spec.place(self.files).items()},
            **{f"meta/episodes/{name}": value for name, value in spec.place(0).items()},
            spec.EPISODE_TASK: entry.task,
            spec.EPISODE_SUCCESS: entry.success,
            spec.EPISODE_SEED: entry.seed,
            spec.EPISODE_LABELLED_BY: entry.labelled_by,
            spec.EPISODE_CONFIDENCE: entry.confidence,
        }
        for name, values in steps.items():
            row |= _flat(name, stats.of_vectors(values))
        for view, count in counts.items():
            key = spec.IMAGES + view
            row |= {f"videos/{key}/{name}": value for name, value in spec.place(self.files).items()}
            row[f"videos/{key}/from_timestamp"] = first / self.about.fps
            row[f"videos/{key}/to_timestamp"] = (first + entry.length) / self.about.fps
            self.histograms[view] = self.histograms.get(view, 0) + count
            row |= _flat(key, stats.of_histogram(count, entry.length))
        return row

    def _info(self, kind: ShardSchema) -> dict[str, Any]:
        fps = self.about.fps
        info = {
            "codebase_version": spec.VERSION,
            "robot_type": None,
            "total_episodes": len(self.rows),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": spec.CHUNK_SIZE,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": int(fps) if float(fps).is_integer() else fps,
            "splits": {"train": f"0:{len(self.rows)}"},
            "data_path": spec.DATA,
            "video_path": spec.VIDEO,
            "features": spec.features(kind.sizes, fps, kind.action, kind.state),
        }
        own = {
            spec.ACTION_LAYOUT: self.about.action_layout,
            spec.STATE_LAYOUT: self.about.state_layout,
            spec.NOTES: list(self.about.notes),
        }
        return info | {name: value for name, value in own.items() if value}

    def _file(self, template: str, **names: str) -> Path:
        file = self.target / template.format(**names, **spec.place(self.files))
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


def _share(source: Path, video: Path) -> None:
    try:
        video.hardlink_to(source)
    except OSError:  # some file systems have no links
        shutil.copyfile(source, video)


def _flat(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"stats/{name}/{key}": value for key, value in values.items()}
