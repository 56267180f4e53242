"""Reads a folder of captioned videos: one episode a file, one view, no actions.

    captions.csv        columns file,caption; UTF-8; the file's path from the folder
    cups/pour.mp4       a video, in the folder itself or below it
    cups/pour.txt       its caption, where captions.csv has none

Names that begin with a dot are left alone.
"""

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from videopolicy.datasets.notes import Note
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError, unknown
from videopolicy.media import Decoder
from videopolicy.types import Episode

VIEW = "video"
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
CAPTIONS = "captions.csv"
# Videos beside such files belong to a data set of another format.
_TABLES = (".parquet", ".hdf5", ".h5")
_HOW = f"write it into {CAPTIONS} (columns file,caption) or into a text file of the same name that ends in .txt"


def open_dataset(path: Path, reading: Reading = AS_IT_IS) -> "VideoFolder":
    """Opens a folder: reads the captions and the head of every video, and decodes nothing.

    Raises:
        UserError: no folder, no video in it, a video without a caption, or a damaged file; the message names the file.
    """
    reading.refuse_all_but(path)
    return VideoFolder(Path(path))


def recognises(path: Path) -> bool:
    """Whether a folder holds videos and no tables of another format (see `videopolicy.datasets.formats`)."""
    suffixes = {file.suffix.lower() for file in _visible(path)} if path.is_dir() else set()
    return bool(suffixes.intersection(SUFFIXES)) and not suffixes.intersection(_TABLES)


@dataclass(frozen=True)
class _Video:
    file: Path
    caption: str
    fps: float
    frames: int


class VideoFolder:
    """A `videopolicy.datasets.base.Dataset`. Safe to send to other processes: each opens its own files.

    `fps` is the most common rate of the files; each episode carries its own.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give a folder with videos ({', '.join(SUFFIXES)})")
        files = [file for file in _visible(path) if file.suffix.lower() in SUFFIXES]
        if not files:
            raise UserError(f"{path}: holds no videos ({', '.join(SUFFIXES)})")
        captions = _read_table(path / CAPTIONS)
        names = [file.relative_to(path).as_posix() for file in files]
        self.notes = tuple(
            Note("unused", f"{path / CAPTIONS}: {name!r} has a caption, but there is no such video")
            for name in captions
            if name not in set(names)
        )
        self._videos = [
            _look(file, captions.get(name) or _read_text(file)) for name, file in zip(names, files, strict=True)
        ]
        self.views, self.fps = (VIEW,), Counter(video.fps for video in self._videos).most_common(1)[0][0]
        self.action_width, self.state_width, self.action_layout, self.state_layout = None, None, "", ""
        self.tasks = tuple(dict.fromkeys(video.caption for video in self._videos))
        parts = [
            [name, video.file.stat().st_size, video.caption] for name, video in zip(names, self._videos, strict=True)
        ]
        self.fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        self._decoder: tuple[int, int, Decoder] | None = None

    def __len__(self) -> int:
        return len(self._videos)

    def length(self, index: int) -> int:
        """The frames of one video, without decoding it."""
        return self._videos[index].frames

    def number(self, index: int) -> int:
        """What the files call an episode; see `Dataset.number`."""
        return index

    def rates(self) -> Iterable[tuple[Path, float]]:
        """Each file, and its frames a second."""
        return ((video.file, video.fps) for video in self._videos)

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One video, or its frames start to stop - 1; no frames if `views` is empty.

        Raises:
            UserError: unknown view, or the file cannot be decoded.
        """
        video = self._videos[index]
        chosen = self.views if views is None else views
        for view in chosen:
            if view != VIEW:
                raise UserError(f"{self.path}: {unknown('view', view, self.views)}")
        last = video.frames if stop is None else min(stop, video.frames)
        frames = {view: self._open(index).read(start, last) for view in chosen}
        return Episode(frames, video.caption, video.fps)

    def close(self) -> None:
        """Closes the video file that reading has opened."""
        if self._decoder:
            self._decoder[2].close()
        self._decoder = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None}

    def _open(self, index: int) -> Decoder:
        # One file at a time, as a folder may hold more than a process may open; and after a fork, not the parent's.
        if self._decoder is None or self._decoder[:2] != (os.getpid(), index):
            self.close()
            self._decoder = (os.getpid(), index, Decoder(self._videos[index].file))
        return self._decoder[2]


def _visible(path: Path) -> Iterator[Path]:
    """The files in a folder and below it, sorted, without the hidden ones."""
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield file


def _look(file: Path, caption: str) -> _Video:
    decoder = Decoder(file)
    try:
        fps, frames = round(decoder.fps, 3), len(decoder)
    finally:
        decoder.close()
    if not fps or not frames:
        raise UserError(f"{file}: its head names no frames or no rate; the file is cut short or damaged")
    if not caption:
        raise UserError(f"{file}: has no caption; {_HOW}")
    return _Video(file, caption, fps, frames)


def _read_text(file: Path) -> str:
    beside = file.with_suffix(".txt")
    return " ".join(_utf8(beside).split()) if beside.is_file() else ""


def _read_table(file: Path) -> dict[str, str]:
    """File -> caption; a caption that is empty leaves the file to its text file."""
    if not file.exists():
        return {}
    try:
        rows = list(csv.reader(io.StringIO(_utf8(file), newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{file}: not a table of comma-separated values ({error})") from error
    head = [name.strip() for name in rows[0]] if rows else []
    if sorted(head) != ["caption", "file"]:
        raise UserError(f"{file}: its first line must be file,caption, the names of its columns")
    captions: dict[str, str] = {}
    for row in filter(any, rows[1:]):
        if len(row) != len(head):
            raise UserError(
                f"{file}: {','.join(row)!r} has {len(row)} columns, not 2; put quotes around a caption with commas"
            )
        cells = dict(zip(head, row, strict=True))
        name = PurePosixPath(cells["file"].strip().replace("\\", "/")).as_posix()
        caption = " ".join(cells["caption"].split())
        if captions.setdefault(name, caption) != caption:
            raise UserError(f"{file}: {name!r} has two captions; keep one")
    return captions


def _utf8(file: Path) -> str:
    try:
        # Spreadsheets put a byte-order mark in front.
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
