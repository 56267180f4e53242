"""Writes a LeRobotDataset v3.0, episode by episode; the data set appears whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from videopolicy.demos import lerobot_layout as layout
from videopolicy.demos import lerobot_stats as stats
from videopolicy.demos import lerobot_tables as tables
from videopolicy.errors import UserError
from videopolicy.media import Encoder
from videopolicy.types import Episode

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Writer:
    """A context manager: `add` episodes inside, and the data set is there after a clean exit.

    Until then everything is in a folder beside the target, which is removed after any failure. Memory holds the frames
    of one episode at a time. The first episode fixes the images' size and whether there are actions and states.

    Colours are kept pixel by pixel: at 64 pixels, colours shared by four pixels cost 10 dB, whatever the rate.

    Args:
        path: the data set's folder; must not exist, or be empty.
        fps: control steps a second.
        views: the cameras that every episode has.
        crf: the videos' quality (see `videopolicy.media.Encoder`); 10 gives 38 to 41 dB at 64 pixels.

    Raises:
        UserError: the target exists; an episode does not fit the first one; the disk is full.
    """

    def __init__(self, path: Path, fps: float, views: Sequence[str], crf: int = 10):
        self.path = Path(path)
        refuse_existing(self.path)
        self._aside = self.path.absolute().with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._fps, self._views, self._crf = fps, tuple(views), crf
        self._shape: tuple[int, ...] | None = None
        self._widths: tuple[int | None, int | None] = (None, None)
        self._encoders: dict[str, Encoder] = {}
        self._table: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._tasks: dict[str, int] = {}
        self._frames = 0
        self._vectors: dict[str, list[np.ndarray]] = {}
        self._histograms: dict[str, np.ndarray] = {view: np.zeros((3, 256), np.int64) for view in self._views}

    def __enter__(self) -> "Writer":
        try:
            self._aside.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write to {self._aside.parent} ({error.strerror})") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            error = failure
            raise
        finally:
            if error is not None:
                self._abandon()
            _explain(error, self.path)

    def add(self, episode: Episode) -> None:
        """Appends one episode.

        Raises:
            UserError: it has other views, sizes or widths than the first, NaN or infinite values, or no steps.
        """
        self._check(episode)
        if self._shape is None:
            self._open(episode)
        count, index = len(episode), len(self._rows)
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        columns = {
            "timestamp": np.arange(count) / self._fps,
            "frame_index": np.arange(count),
            "episode_index": np.full(count, index),
            "index": self._frames + np.arange(count),
            "task_index": np.full(count, task),
        }
        columns = {name: values.astype(layout.INDEX_COLUMNS[name]) for name, values in columns.items()}
        vectors = {
            name: np.ascontiguousarray(values, np.float32)
            for name, values in ((layout.ACTION, episode.actions), (layout.STATE, episode.states))
            if values is not None
        }
        assert self._table is not None
        self._table.write_table(tables.of_rows(vectors | columns))
        self._rows.append(self._row(episode, index, vectors, columns))
        self._frames += count

    def _row(self, episode: Episode, index: int, vectors: dict, columns: dict) -> dict[str, Any]:
        count = len(episode)
        row: dict[str, Any] = {
            "episode_index": index,
            "tasks": [episode.instruction],
            "length": count,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + count,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            layout.EPISODE_TASK: episode.task,
            layout.EPISODE_SUCCESS: episode.success,
            layout.EPISODE_SEED: episode.seed,
        }
        for name, values in (vectors | columns).items():
            self._vectors.setdefault(name, []).append(values)
            row |= _flat(name, stats.of_vectors(values.reshape(count, -1)))
        for view in self._views:
            key = layout.IMAGES + view
            self._encoders[view].write(episode.views[view])
            row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": 0}
            row[f"videos/{key}/from_timestamp"] = self._frames / self._fps
            row[f"videos/{key}/to_timestamp"] = (self._frames + count) / self._fps
            counts = stats.histogram(episode.views[view])
            self._histograms[view] += counts
            row |= _flat(key, stats.of_histogram(counts, count))
        return row

    def _open(self, episode: Episode) -> None:
        self._shape = next(iter(episode.views.values())).shape[1:]
        self._widths = _widths(episode)
        for view in self._views:
            file = self._aside / layout.VIDEO.format(video_key=layout.IMAGES + view, chunk_index=0, file_index=0)
            file.parent.mkdir(parents=True)
            self._encoders[view] = Encoder(file, self._fps, self._crf, full_colour=True)
        file = self._aside / layout.DATA.format(chunk_index=0, file_index=0)
        file.parent.mkdir(parents=True)
        self._table = pq.ParquetWriter(file, tables.schema_of_rows(*self._widths))

    def _check(self, episode: Episode) -> None:
        where = f"{self.path}: episode {len(self._rows)}"
        missing = [view for view in self._views if view not in episode.views]
        if missing:
            raise UserError(f"{where} lacks the view {missing[0]!r}; it has {', '.join(episode.views)}")
        shapes = {episode.views[view].shape for view in self._views}
        if len(shapes) > 1 or len(episode) == 0:
            raise UserError(f"{where}: every view needs the same one or more frames of one size, not {sorted(shapes)}")
        for name, values in (("actions", episode.actions), ("states", episode.states)):
            if values is not None and len(values) != len(episode):
                raise UserError(f"{where} has {len(values)} {name} for {len(episode)} frames; one each is needed")
            if values is not None and not np.isfinite(values).all():
                raise UserError(f"{where} has {name} that are not finite numbers")
        found = (next(iter(shapes))[1:], _widths(episode))
        if self._shape is not None and found != (self._shape, self._widths):
            first = (self._shape, self._widths)
            raise UserError(f"{where}: image shape and widths of action and state are {found}, the first had {first}")

    def _finish(self) -> None:
        if not self._rows:
            raise UserError(f"{self.path}: nothing was written, as no episode was added")
        self._close()
        self._write_meta()
        refuse_existing(self.path)
        self._aside.rename(self.path)

    def _write_meta(self) -> None:
        assert self._shape is not None
        totals = {name: stats.of_vectors(_columns(parts)) for name, parts in self._vectors.items()}
        for view, counts in self._histograms.items():
            totals[layout.IMAGES + view] = stats.of_histogram(counts, self._frames)
        info = {
            "codebase_version": layout.VERSION,
            "robot_type": None,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": 1000,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": int(self._fps) if float(self._fps).is_integer() else self._fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO,
            "features": layout.features(self._views, self._shape, self._fps, *self._widths),
        }
        episodes = self._aside / layout.EPISODES.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        episodes.write_bytes(tables.to_bytes(tables.of_episodes(self._rows)))
        (self._aside / layout.TASKS).write_bytes(tables.to_bytes(tables.of_tasks(list(self._tasks))))
        (self._aside / layout.STATS).write_text(json.dumps(totals, indent=2))
        (self._aside / layout.INFO).write_text(json.dumps(info, indent=2))

    def _close(self) -> None:
        encoders, self._encoders = self._encoders, {}
        table, self._table = self._table, None
        # All of them, even if the first finds the disk full.
        with ExitStack() as stack:
            for encoder in encoders.values():
                stack.callback(encoder.close)
            if table is not None:
                # Or its destructor tries again, and prints what went wrong.
                stack.callback(setattr, table, "is_open", False)
                stack.callback(table.close)

    def _abandon(self) -> None:
        with suppress(OSError):  # a full disk; what was buffered is thrown away anyhow
            self._close()
        shutil.rmtree(self._aside, ignore_errors=True)


def refuse_existing(path: Path) -> None:
    """Raises UserError if a data set written to this path would replace something, or has no folder to be in."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not empty; name another folder, or remove it first")
    # The data set takes the folder's place, which these would not let go or not notice.
    if path.absolute().is_mount() or path.resolve() == Path.cwd():
        raise UserError(f"{path} is a mount point or the current folder; name a new folder in it")
    around = next(parent for parent in path.absolute().parents if parent.exists())
    if not (around.is_dir() and os.access(around, os.W_OK)):
        raise UserError(f"cannot write to {path}: {around} is no folder that this user may write to")


def _explain(error: BaseException | None, path: Path) -> None:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        raise UserError(f"no space left to write {path} ({os.strerror(error.errno)}); nothing was kept") from error


def _widths(episode: Episode) -> tuple[int | None, int | None]:
    actions, states = episode.actions, episode.states
    return None if actions is None else actions.shape[1], None if states is None else states.shape[1]


def _columns(parts: list[np.ndarray]) -> np.ndarray:
    values = np.concatenate(parts)
    return values.reshape(len(values), -1)


def _flat(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"stats/{name}/{key}": value for key, value in values.items()}
