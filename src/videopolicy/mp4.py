"""What the tables of an MP4 or MOV say of its pictures (ISO/IEC 14496-12), without reading the pictures.

PyAV gives these tables from 17 on, and lerobot wants an older one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Where the tables of a track lie in one another.
_TABLES = (b"mdia", b"minf", b"stbl")


@dataclass(frozen=True)
class Pictures:
    """The pictures of a file.

    Attributes:
        count: how many.
        step: ticks of the track's clock from one to the next, if all are shown and each is as long as the next; else 0.
        whole: whether the file is as long as it must be to hold them.
    """

    count: int
    step: int
    whole: bool


def pictures(path: Path) -> Pictures | None:
    """What the tables of a file say, if that leaves no doubt.

    Returns:
        None for a file of another kind, in fragments, of several video tracks, or whose tables are damaged; only
        reading it through says more.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        moov, size = _moov(file), path.stat().st_size
    # Of damaged tables, one is shorter than another says, or missing.
    try:
        film = dict(_boxes(moov))
        tracks = [dict(_boxes(body)) for name, body in _boxes(moov) if name == b"trak"]
        videos = [track for track in tracks if dict(_boxes(track[b"mdia"]))[b"hdlr"][8:12] == b"vide"]
        return _pictures(videos[0], film, size) if len(videos) == 1 and b"mvex" not in film else None
    except (KeyError, IndexError, ValueError):
        return None


def _pictures(track: dict[bytes, bytes], film: dict[bytes, bytes], size: int) -> Pictures:
    tables = track
    for name in _TABLES:
        tables = dict(_boxes(tables[name]))
    counts, steps = _table(tables[b"stts"], 2).T
    sizes = _sizes(tables[b"stsz"])
    if counts.sum() != len(sizes):
        raise ValueError("as many times as pictures are needed")
    # The last picture may be shown longer or shorter than the others.
    same = steps[:-1] if len(steps) > 1 and counts[-1] == 1 else steps
    step = int(same[0]) if (same == same[0]).all() else 0
    if step and b"edts" in track:
        late = np.zeros(len(sizes), np.int64)
        if b"ctts" in tables:
            repeats, offsets = _table(tables[b"ctts"], 2).T
            # In a table of the second version, they may be below zero.
            late = np.repeat(offsets.astype(np.uint32).astype(np.int32), repeats)
        ticks = _clock(dict(_boxes(track[b"mdia"]))[b"mdhd"]) / _clock(film[b"mvhd"])
        step = 0 if _hides(track[b"edts"], step * np.arange(len(sizes)) + late, ticks) else step
    return Pictures(len(sizes), step, _end(tables, sizes) <= size)


def _hides(edits: bytes, times: np.ndarray, ticks: float) -> bool:
    """Whether an edit list leaves out a picture, or may do so.

    Args:
        edits: the box around it.
        times: of each picture, before editing.
        ticks: of the track's clock in one of the film's.
    """
    body = dict(_boxes(edits))[b"elst"]
    entry = np.frombuffer(body[8:], ">i8" if body[0] else ">i4")
    if int.from_bytes(body[4:8]) != 1:
        return True
    length, first = int(entry[0]), int(entry[1])
    return first > times.min() or first + length * ticks <= times.max()


def _end(tables: dict[bytes, bytes], sizes: np.ndarray) -> int:
    """Where the last picture ends in the file."""
    chunks = _table(tables[b"co64"], 1, ">u8") if b"co64" in tables else _table(tables[b"stco"], 1)
    in_last = int(_table(tables[b"stsc"], 3)[-1, 1])
    return max(int(chunks.max()), int(chunks[-1, 0]) + int(sizes[-in_last:].sum()))


def _sizes(body: bytes) -> np.ndarray:
    one, count = np.frombuffer(body[4:12], ">u4")
    sizes = np.full(count, one, np.int64) if one else np.frombuffer(body[12:], ">u4").astype(np.int64)
    if not count or len(sizes) != count:
        raise ValueError("a table of another length than it says")
    return sizes


def _table(body: bytes, width: int, kind: str = ">u4") -> np.ndarray:
    """The rows of a table, after its version, flags and length."""
    rows = np.frombuffer(body[8:], kind).reshape(-1, width).astype(np.int64)
    if len(rows) != int.from_bytes(body[4:8]):
        raise ValueError("a table of another length than it says")
    return rows


def _clock(header: bytes) -> int:
    """Ticks a second, from the header of the film or of a track; times before it have 4 or 8 bytes."""
    at = 20 if header[0] else 12
    return int.from_bytes(header[at : at + 4])


def _moov(file: BinaryIO) -> bytes:
    """The box of all tables, b"" if there is none."""
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4]), head[4:]
        length -= 8
        if length == 1 - 8:
            length = int.from_bytes(file.read(8)) - 16
        if name == b"moov":
            return file.read(max(length, 0))
        if length < 0:
            break
        file.seek(length, 1)
    return b""


def _boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes in a box: name, body."""
    at = 0
    while at + 8 <= len(body):
        length, name = int.from_bytes(body[at : at + 4]), body[at + 4 : at + 8]
        if length < 8:
            return
        yield name, body[at + 8 : at + length]
        at += length
