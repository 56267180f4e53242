"""Reads a folder of captioned videos: one episode a file, one view, no actions.

    captions.csv        columns file,caption; UTF-8; the file's path from the folder
    cups/pour.mp4       a video, in the folder itself or below it, in a linked folder, too
    cups/pour.txt       its caption, where captions.csv has none

Names that begin with a dot are left alone. A video that cannot be read, or has no caption, costs only itself.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videopolicy.datasets.captions import TABLE, Fault, Table, name_in_table, read_beside, read_table
from videopolicy.datasets.files import visible
from videopolicy.datasets.notes import Note
from videopolicy.datasets.phrases import plural
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError, unknown
from videopolicy.media import Decoder, Probe, probe
from videopolicy.types import Episode

VIEW = "video"
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
# Of kinds that `videopolicy.media` does not open.
_FOREIGN_SUFFIXES = (".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".gif")
# Videos beside such files belong to a data set of another format.
_TABLES = (".parquet", ".hdf5", ".h5")
_HOW = f"write it into {TABLE} (columns file,caption) or into a text file of the same name that ends in .txt"
_ABSENT = "has a caption, but there is no such video"
_HIDDEN = "its edit list hides some of its pictures, which are not read; the list may be damaged"
_NO_VIDEO = "is no caption, as there is no video of its name"
_FOREIGN = f"is a video of a kind that is not read; convert it to one of {', '.join(SUFFIXES)}"


def open_dataset(path: Path, reading: Reading = AS_IT_IS) -> "VideoFolder":
    """Opens a folder: reads the captions and the head of every video, and decodes nothing.

    Raises:
        UserError: no folder, no video in it, or none that can be used; the message names the first cause.
    """
    reading.refuse_all_but(path)
    return VideoFolder(Path(path))


def recognises(path: Path) -> bool:
    """Whether a folder holds videos and no tables of another format (see `videopolicy.datasets.formats`)."""
    suffixes = {file.suffix.lower() for file in visible(path)}
    return bool(suffixes.intersection(SUFFIXES)) and not suffixes.intersection(_TABLES)


@dataclass(frozen=True)
class _Video:
    file: Path
    caption: str
    fps: float
    frames: int
    # Its place among all videos of the folder.
    number: int
    hidden: int


class VideoFolder:
    """A `videopolicy.datasets.base.Dataset`. Safe to send to other processes: each opens its own files.

    `fps` is the most common rate of the files; each episode carries its own.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give a folder with videos ({', '.join(SUFFIXES)})")
        files = visible(path, SUFFIXES)
        if not files:
            raise UserError(f"{path}: holds no videos ({', '.join(SUFFIXES)})")
        names = [name_in_table(path, file) for file in files]
        table = read_table(path / TABLE, names)
        looks = [_look(number, file, name, table) for number, (file, name) in enumerate(zip(files, names, strict=True))]
        self._videos = [look for look in looks if isinstance(look, _Video)]
        lost = {number: look for number, look in enumerate(looks) if isinstance(look, Fault)}
        hidden = [(Fault(str(video.file), _HIDDEN), video.number) for video in self._videos if video.hidden]
        self.notes = (*_notes(path, names, table, lost), *_grouped("unused", hidden))
        if not self._videos:
            count = f"none of {plural(len(files), 'video')}"
            raise UserError(f"{count} can be used: {self.notes[0]}")
        self.views, self.fps = (VIEW,), Counter(video.fps for video in self._videos).most_common(1)[0][0]
        self.action_width, self.state_width, self.action_layout, self.state_layout = None, None, "", ""
        self.tasks = tuple(dict.fromkeys(video.caption for video in self._videos))
        parts = [[names[video.number], video.file.stat().st_size, video.caption] for video in self._videos]
        self.fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        self._decoder: tuple[int, int, Decoder] | None = None

    def __len__(self) -> int:
        return len(self._videos)

    def length(self, index: int) -> int:
        """The frames of one video, without decoding it."""
        return self._videos[index].frames

    def number(self, index: int) -> int:
        """What the files call an episode; see `Dataset.number`."""
        return self._videos[index].number

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


def _look(number: int, file: Path, name: str, table: Table) -> _Video | Fault:
    try:
        found = probe(file)
    except UserError as error:
        return Fault.of(file, error)
    if wrong := _wrong(found):
        return Fault(str(file), wrong)
    caption = table.captions.get(name) or read_beside(file)
    if isinstance(caption, Fault):
        return caption
    if not caption:
        return table.odd.get(name) or table.fault or Fault(str(file), f"has no caption; {_HOW}")
    return _Video(file, caption, round(found.fps, 3), found.frames, number, found.hidden)


def _wrong(found: Probe) -> str:
    """Why a video that can be opened cannot be used, "" if it can."""
    if not found.frames or not round(found.fps, 3):
        return "its head names no frames or no rate; the file is cut short or damaged"
    return "holds depths and no colours; move it elsewhere" if found.depth else ""


def _notes(folder: Path, names: Sequence[str], table: Table, lost: Mapping[int, Fault]) -> Iterator[Note]:
    """All that is not read as it stands."""
    yield from _grouped("left out", [(fault, number) for number, fault in lost.items()])
    odd = [(table.odd[name], number) for number, name in enumerate(names) if name in table.odd and number not in lost]
    yield from _grouped("mended", odd, "; the text file of the same name is read instead")
    if table.fault and table.fault not in lost.values():
        yield from _grouped("mended", [(table.fault, None)], "; text files are read instead")
    absent = [Fault(f"{folder / TABLE}, {name}", _ABSENT) for name in table.captions if name not in set(names)]
    foreign = [Fault(str(file), _FOREIGN) for file in visible(folder, _FOREIGN_SUFFIXES)]
    if any((folder / name).with_suffix(".txt").is_file() for name in names):
        videos = {(folder / name).with_suffix("") for name in names}
        alone = (file for file in visible(folder, (".txt",)) if file.with_suffix("") not in videos)
        absent += [Fault(str(file), _NO_VIDEO) for file in alone]
    yield from _grouped("unused", [(fault, None) for fault in (*table.stray, *absent, *foreign)])


def _grouped(
    kind: Literal["left out", "mended", "unused"], faults: Iterable[tuple[Fault, int | None]], more: str = ""
) -> Iterator[Note]:
    """A note a cause, with the first of its places and the numbers of its videos."""
    found: dict[str, list[tuple[Fault, int | None]]] = {}
    for fault, number in faults:
        found.setdefault(fault.cause, []).append((fault, number))
    for cause, group in found.items():
        others = len({fault.place for fault, _ in group}) - 1
        place = group[0][0].place + (f" (and {others} more)" if others else "")
        yield Note(kind, f"{place}: {cause}{more}", tuple(number for _, number in group if number is not None))
