"""One episode in an HDF5 file: where its arrays are, and how they become frames, actions and states."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32

from videopolicy.datasets.hdf5.access import array, arrays, group, rows
from videopolicy.datasets.phrases import plural
from videopolicy.datasets.pictures import DamagedPictureError, is_deep, opened
from videopolicy.errors import UserError, unknown
from videopolicy.types import Frames

_SHORT = re.compile(r"(.+)_(?:image|rgb)")
# What a compressed picture begins and ends with; zeros follow where rows are filled up to one length.
_JPEG, _PNG = (b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND\xae\x42\x60\x82")
_FORMATS = ("JPEG", "PNG")


@dataclass(frozen=True)
class Camera:
    """An array of pictures.

    Attributes:
        key: its path from the episode's group.
        steps: how many pictures.
        size: height and width.
        channels: 3, or 4 if a transparency is stored, which is dropped.
        coded: whether each row is one JPEG or PNG.
    """

    key: str
    steps: int
    size: tuple[int, int]
    channels: int = 3
    coded: bool = False


@dataclass(frozen=True)
class Column:
    """An array of numbers, by its path from the episode's group."""

    key: str
    steps: int = field(compare=False)
    width: int

    @property
    def name(self) -> str:
        """What a person may call it: its path, from the group of the observations if it lies there."""
        return self.key.removeprefix("obs/").removeprefix("observations/")

    def __str__(self) -> str:
        return f"{self.name} ({self.width} wide)"


@dataclass(frozen=True)
class Contents:
    """What is in the group of an episode's observations.

    Attributes:
        cameras: view -> its pictures.
        columns: numbers that could be a state.
        others: what is neither, in words.
    """

    cameras: dict[str, Camera]
    columns: tuple[Column, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class StoredEpisode:
    """One episode, of which nothing was read yet.

    Attributes:
        file: where it is.
        name: what the file calls it; "" if the file holds nothing else.
        group: the path of its group in the file.
        number: its place among all episodes on disk.
        instruction: what is done, in words.
        fps: steps a second.
        steps: control steps that can be read.
        cameras: view -> its pictures.
        actions: what makes up the action, in this order; () if there is none.
        action_width: how many of the first dimensions of it are read; None if there is none.
        action_layout: what they mean, "" if unspecified.
        states: the same of the state.
        state_layout: what it means.
        other_actions: columns that could be actions, and are not read.
        other_states: the same of the state.
        others: what else is not read, in words.
        task: the simulator's name of the task, "" if unknown.
        flipped: whether the bottom row of a picture is stored first.
        lag: control steps by which a frame is stored later than it was seen.
    """

    file: Path
    name: str
    group: str
    number: int
    instruction: str
    fps: float
    steps: int
    cameras: Mapping[str, Camera]
    actions: tuple[Column, ...]
    action_width: int | None
    action_layout: str
    states: tuple[Column, ...]
    state_layout: str
    other_actions: tuple[Column, ...] = ()
    other_states: tuple[Column, ...] = ()
    others: tuple[str, ...] = ()
    task: str = ""
    flipped: bool = False
    lag: int = 0

    @property
    def acts(self) -> bool:
        """Whether it has actions."""
        return self.action_width is not None

    def __str__(self) -> str:
        return f"{self.file}: {self.name}" if self.name else str(self.file)


def contents(held: h5py.Group, path: str, pictures: str | None = None) -> Contents:
    """What is in a group inside an episode's, and in the groups in it.

    Args:
        held: the episode's group.
        path: of the group, from there.
        pictures: of a group from there on, in which any uint8 (N, bytes) is taken for compressed pictures, not only
            what begins like one.

    Raises:
        UserError: something lies elsewhere, or a compressed picture is damaged.
    """
    cameras: list[Camera] = []
    columns: list[Column] = []
    others: list[str] = []
    for name, values in arrays(group(held, path)):
        key = f"{path}/{name}"
        camera = _camera(key, values, pictures is not None and name.startswith(f"{pictures}/"))
        column = column_of(key, values)
        if camera:
            cameras.append(camera)
        elif column:
            columns.append(column)
        else:
            others.append(f"{name} ({_described(values)})")
    return Contents(_by_view(cameras, path), tuple(columns), tuple(others))


def column_of(key: str, values: h5py.Dataset) -> Column | None:
    """An array as a column of numbers, (N,) or (N, width); None if it is none."""
    shape = values.shape
    if values.dtype.kind not in "fiub" or len(shape) not in (1, 2) or not all(shape[1:]):
        return None
    return Column(key, shape[0], shape[1] if len(shape) == 2 else 1)


def action_columns(held: h5py.Group) -> list[Column]:
    """The columns outside the observations whose names say that they are actions."""
    return [column for key, values in arrays(held, "action") if (column := column_of(key, values))]


def chosen(held: h5py.Group, keys: Sequence[str], folder: str, option: str) -> tuple[Column, ...]:
    """The columns that a person named, each by its path from a group, or else from the episode's.

    Args:
        held: the episode's group.
        keys: what was named.
        folder: the path of the group that is looked into first, "" for the episode's own.
        option: with which it was named.

    Raises:
        UserError: there is none of such a name, and the message lists those that there are; or it is no numbers.
    """
    known = {key: column for key, values in arrays(held) if (column := column_of(key, values))}
    short = {key.removeprefix(f"{folder}/"): column for key, column in known.items()}
    found: list[Column] = []
    for key in keys:
        column = known.get(f"{folder}/{key}") or known.get(key)
        if column is None:
            raise UserError(f"{option}: {unknown('array of numbers', key, short)}")
        found.append(column)
    return tuple(found)


def steps_of(read: Sequence[Camera | Column], where: str) -> int:
    """How many steps all arrays have that are read.

    Raises:
        UserError: they differ, or have none.
    """
    first = read[0]
    for other in read:
        if other.steps != first.steps:
            differ = f"{first.key} has {plural(first.steps, 'row')}, but {other.key} has {other.steps}"
            raise UserError(f"{where}{differ}; each needs one a step")
    if not first.steps:
        raise UserError(f"{where}has no control steps")
    return first.steps


def read_frames(held: h5py.Group, camera: Camera, start: int, stop: int, swapped: bool) -> Frames:
    """Pictures start to stop - 1, as they are stored.

    Args:
        held: the episode's group.
        camera: which.
        start: the first.
        stop: after the last.
        swapped: whether red and blue stand in each other's place where pictures are compressed.

    Raises:
        UserError: a picture is damaged, or the array has changed since the data set was opened.
    """
    values = array(held, camera.key)
    if camera != _camera(camera.key, values, camera.coded, camera.size):
        raise UserError(f"{values.file.filename}: {values.name} has changed since the data set was opened")
    stored = rows(values, start, stop)
    if not camera.coded:
        return np.ascontiguousarray(stored[..., :3])
    frames = np.empty((len(stored), *camera.size, 3), np.uint8)
    for place, row in enumerate(stored):
        where = f"{values.file.filename}: {values.name}: picture {start + place}"
        frames[place] = _decoded(bytes(row), camera.size, where)
    return np.ascontiguousarray(frames[..., ::-1]) if swapped else frames


def read_vectors(
    held: h5py.Group, columns: Sequence[Column], start: int, stop: int, where: object
) -> Float32[np.ndarray, "N D"]:
    """Rows start to stop - 1 of some columns, side by side.

    Raises:
        UserError: a number is not finite, or an array has changed since the data set was opened.
    """
    parts = [_finite(held, column, start, stop, where) for column in columns]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _finite(held: h5py.Group, column: Column, start: int, stop: int, where: object) -> np.ndarray:
    values = array(held, column.key)
    if column != column_of(column.key, values) or len(values) != column.steps:
        raise UserError(f"{where}: {column.key} has changed since the data set was opened")
    with np.errstate(over="ignore"):
        read = rows(values, start, stop).astype(np.float32).reshape(stop - start, column.width)
    bad = np.nonzero(~np.isfinite(read).all(1))[0]
    if len(bad):
        raise UserError(f"{where}: {column.key} has a value that is NaN or infinite at step {start + bad[0]}")
    return read


def _camera(key: str, values: h5py.Dataset, coded: bool, size: tuple[int, int] | None = None) -> Camera | None:
    """An array as pictures; None if it is none."""
    shape = values.shape
    if values.dtype == np.uint8 and len(shape) == 4 and shape[3] in (3, 4) and all(shape[1:]):
        return Camera(key, shape[0], (shape[1], shape[2]), shape[3])
    if not _in_bytes(values):
        return None
    if size is None and shape[0]:
        first = bytes(rows(values, 0, 1)[0])
        if not (coded or first.startswith((_JPEG[0], _PNG[0]))):
            return None
        size = _size(first, f"{values.file.filename}: {values.name}: picture 0")
    return Camera(key, shape[0], size, coded=True) if size else None


def _in_bytes(values: h5py.Dataset) -> bool:
    """Whether each row is bytes: of one length, filled up with zeros, or each of its own."""
    own_length: Any = h5py.check_vlen_dtype(values.dtype)
    if len(values.shape) == 2:
        return values.dtype == np.uint8
    return len(values.shape) == 1 and (values.dtype.kind in "SV" or own_length == np.uint8)


def _size(picture: bytes, where: str) -> tuple[int, int] | None:
    """Its height and width; None if its numbers are no colours, as those of a depth map of 16 bits."""
    try:
        image = opened(picture, _FORMATS, pixels=False)
    except DamagedPictureError as error:
        raise UserError(f"{where} is damaged, or neither JPEG nor PNG") from error
    return None if is_deep(image) else (image.height, image.width)


def _decoded(picture: bytes, size: tuple[int, int], where: str) -> np.ndarray:
    """One picture; libjpeg would fill up with grey what is cut off."""
    if not picture.rstrip(b"\0").endswith((_JPEG[1], _PNG[1])):
        raise UserError(f"{where} is cut short, or neither JPEG nor PNG")
    try:
        image = opened(picture, _FORMATS)
    except DamagedPictureError as error:
        raise UserError(f"{where} is damaged") from error
    if (image.height, image.width) != size:
        raise UserError(f"{where} has {image.width}x{image.height} pixels, the first {size[1]}x{size[0]}")
    return np.asarray(image.convert("RGB"))


def _by_view(cameras: Sequence[Camera], path: str) -> dict[str, Camera]:
    """Each under the shortest name that no other has: without _image or _rgb, then with it, then with its group."""
    tries = [(_short(name := camera.key.split("/")[-1]), name) for camera in cameras]
    counts = [Counter(names) for names in zip(*tries, strict=True)]
    found: dict[str, Camera] = {}
    for camera, names in zip(cameras, tries, strict=True):
        single = (name for name, count in zip(names, counts, strict=True) if count[name] == 1 and name not in found)
        found[next(single, camera.key.removeprefix(f"{path}/"))] = camera
    return found


def _short(name: str) -> str:
    match = _SHORT.fullmatch(name)
    return match[1] if match else name


def _described(values: h5py.Dataset) -> str:
    return f"{values.dtype}, {'x'.join(map(str, values.shape[1:])) or 'one each'}"
