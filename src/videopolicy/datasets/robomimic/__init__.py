"""Reads robomimic-style HDF5: RoboCasa v0.1, LIBERO, and what robomimic itself writes (see `robomimic_schema`)."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from videopolicy.datasets.notes import Note
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.datasets.robomimic import schema
from videopolicy.datasets.robomimic.hdf5 import array, count, group, named, names, opened, rows
from videopolicy.errors import UserError, unknown
from videopolicy.types import Episode, Frames

SUFFIXES = (".hdf5", ".h5")


def open_dataset(path: Path, reading: Reading = AS_IT_IS) -> "Robomimic":
    """Opens one HDF5 file, or a folder of them: reads the names, shapes and attributes of all demonstrations.

    Raises:
        UserError: no such file, no demonstrations, or one is not as it should be; names the file and the demonstration.
    """
    reading.refuse_all_but(path)
    return Robomimic(Path(path))


def recognises(path: Path) -> bool:
    """Whether there are HDF5 files."""
    return bool(_files(path))


@dataclass(frozen=True)
class _Demo:
    """One demonstration: where it is, and how its arrays are to be read."""

    file: Path
    name: str
    source: schema.ArrayOrigin
    instruction: str
    steps: int
    width: int
    views: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    states: dict[str, str]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


@dataclass
class _Found:
    demonstrations: list[_Demo] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class Robomimic:
    """A `videopolicy.datasets.base.Dataset`. Safe to send to other processes: no file stays open between two calls.

    A view is an array `NAME_image` or `NAME_rgb` among the observations, and is called NAME. Of RoboCasa's twelve
    action dimensions the seven of the arm are read; an episode whose base moves is skipped. `next_obs`, `states`,
    `rewards` and `dones` are not read. The fingerprint is of names, sizes, lengths and attributes, not of the pictures.
    """

    def __init__(self, path: Path):
        self.path = path
        files = _files(path)
        if not files:
            wrong = "holds no HDF5 file" if path.exists() else "no such data set"
            raise UserError(f"{path}: {wrong}; give an .hdf5 file, or a folder with some in it")
        found = _Found()
        for file in files:
            _read_file(file, found)
        self.notes = tuple(Note("left out", line) for line in found.skipped)
        self._demonstrations = found.demonstrations
        if not found.demonstrations:
            raise UserError(f"{path}: holds no demonstrations" + "".join(f"; {line}" for line in found.skipped[:1]))
        first = found.demonstrations[0]
        for demo in found.demonstrations:
            _agree(first, demo)
        self.views = tuple(first.views)
        self.fps, self.action_width = first.source.fps, first.width
        self.action_layout = first.source.action_layout if first.width == schema.ARM else ""
        self.state_layout = " ".join(first.states.values())
        widths = [int(np.prod(first.shapes[key][1:])) for key in first.states]
        self.state_width = sum(widths) if widths else None
        self.tasks = tuple(dict.fromkeys(demo.instruction for demo in found.demonstrations))
        self.fingerprint = self._hash(files)

    def __len__(self) -> int:
        return len(self._demonstrations)

    def length(self, index: int) -> int:
        """The control steps of one episode, without reading it."""
        return self._demonstrations[index].steps

    def number(self, index: int) -> int:
        """What the files call an episode; see `Dataset.number`."""
        return index

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its steps start to stop - 1, with only these views read (every view if None).

        Raises:
            UserError: unknown view; the file is damaged or has changed; actions or states are not finite.
        """
        demo = self._demonstrations[index]
        last = demo.steps if stop is None else min(stop, demo.steps)
        for view in views or ():
            if view not in demo.views:
                raise unknown("view", view, self.views)
        chosen = self.views if views is None else views
        lag = demo.source.lag
        with opened(demo.file) as root, named(demo):
            held = group(group(root, "data"), demo.name)
            obs = group(held, "obs")
            frames = {view: _frames(obs, demo, demo.views[view], start, last) for view in chosen}
            actions = _vectors(held, demo, "actions", start + lag, last + lag)[:, : demo.width]
            states = [_vectors(obs, demo, key, start, last) for key in demo.states]
        return Episode(
            frames,
            demo.instruction,
            self.fps,
            np.ascontiguousarray(actions),
            np.concatenate(states, axis=1) if states else None,
            demo.source.task,
        )

    def _hash(self, files: list[Path]) -> str:
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{_relative(file, self.path)} {file.stat().st_size}".encode())
        for demo in self._demonstrations:
            told = (demo.name, demo.source, demo.instruction, demo.steps, demo.width, demo.shapes)
            digest.update(repr((_relative(demo.file, self.path), *told)).encode())
        return digest.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    return [path] if path.suffix in SUFFIXES and path.is_file() else []


def _relative(file: Path, path: Path) -> Path:
    return file.relative_to(path) if file != path else Path()


def _read_file(file: Path, found: _Found) -> None:
    source, steps = None, 0
    with opened(file) as root:
        data = group(root, "data")
        for name in sorted(names(data), key=_number):
            with named(f"{file}: {name}"):
                if _number(name)[0] < 0:
                    found.skipped.append(f"{file}: {name!r} is not called demo_ and a number")
                    continue
                held = group(data, name)
                source = source or schema.read_source(file, data, set(names(group(held, "obs"))))
                steps += _read_demo(held, source, found, file, name)
        told = count(data, "total")
    if told is not None and told != steps:
        found.skipped.append(f"{file}: says it has {told} steps in total, but its demonstrations have {steps}")


def _number(name: str) -> tuple[int, str]:
    match = re.fullmatch(r"demo_([0-9]{1,9})", name)
    return (int(match[1]) if match else -1), name


def _read_demo(held: h5py.Group, source: schema.ArrayOrigin, found: _Found, file: Path, name: str) -> int:
    """Notes one demonstration, or why it is left out; returns how many steps are stored."""
    where = f"{file}: {name}"
    obs, actions = group(held, "obs"), array(held, "actions")
    if actions.ndim != 2 or actions.dtype.kind not in "fi" or not actions.shape[1]:
        raise UserError(f"{where}: actions are {actions.dtype} {actions.shape}; they should be numbers (steps, width)")
    steps, width = len(actions), schema.read_width(held, actions)
    why = schema.broken(held, actions, name, source)
    if why:
        found.skipped.append(f"{where}: {why}")
        return steps
    views, states = _views(obs, where), schema.read_states(obs)
    shapes = {key: tuple(values.shape) for key, values in (*views.values(), *states.items())}
    for key, shape in {**shapes, "num_samples": (count(held, "num_samples") or steps,)}.items():
        if shape[0] != steps:
            raise UserError(f"{where}: {steps} actions, but {key} has {shape[0]}")
    keys = {view: key for view, (key, _) in views.items()}
    words = {key: schema.state_word(key, values.shape[1]) for key, values in states.items()}
    told = schema.instruction_of(held, source)
    found.demonstrations.append(_Demo(file, name, source, told, steps - source.lag, width, keys, shapes, words))
    return steps


def _views(obs: h5py.Group, where: str) -> dict[str, tuple[str, h5py.Dataset]]:
    views: dict[str, tuple[str, h5py.Dataset]] = {}
    for key in names(obs):
        match = schema.VIEW.fullmatch(key)
        if not match:
            continue
        images = array(obs, key)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not all(images.shape[1:]):
            raise UserError(f"{where}: {key} is {images.dtype} {images.shape}; images are uint8 (steps, H, W, 3)")
        if match[1] in views:
            raise UserError(f"{where}: both {views[match[1]][0]} and {key} are the view {match[1]!r}; keep one of them")
        views[match[1]] = key, images
    if not views:
        raise UserError(f"{where}: no images among its observations; render them, or give the file that has them")
    return views


def _agree(first: _Demo, other: _Demo) -> None:
    """All episodes have one action width, one rate and the same views and states; pictures of a file have one size."""
    for name, here, there in (
        ("views", [*first.views], [*other.views]),
        ("states", first.states, other.states),
        ("action dimensions", first.width, other.width),
        ("steps a second", first.source.fps, other.source.fps),
        ("meaning of actions", first.source.action_layout, other.source.action_layout),
    ):
        if here != there:
            raise UserError(f"{other}: its {name} {there} are not those of {first}, {here}; read them as two data sets")
    for key in first.views.values():
        here, there = first.shapes[key][1:], other.shapes[key][1:]
        if first.file == other.file and here != there:
            raise UserError(f"{other}: {key} has the size {there}, but {here} in {first.name}")


def _frames(obs: h5py.Group, demo: _Demo, key: str, start: int, stop: int) -> Frames:
    images = array(obs, key)
    if tuple(images.shape) != demo.shapes[key] or images.dtype != np.uint8:
        raise UserError(f"{demo}: {key} has changed since the data set was opened")
    frames = rows(images, start, stop)
    return np.ascontiguousarray(frames[:, ::-1]) if demo.source.flipped else frames


def _vectors(parent: h5py.Group, demo: _Demo, key: str, start: int, stop: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = rows(array(parent, key), start, stop).astype(np.float32)
    values = values.reshape(len(values), -1)
    bad = np.nonzero(~np.isfinite(values).all(1))[0]
    if len(bad):
        raise UserError(f"{demo}: {key} at step {start + bad[0]} is NaN or infinite")
    if len(values) != stop - start:
        raise UserError(f"{demo}: {key} has changed since the data set was opened")
    return values
