"""A run of episodes on its way into a LeRobotDataset v3.0, which `assembly` makes of one or more of them.

Shards are written independently, so that processes can share the work. A shard is a folder:

    VIEW.mp4                 the frames of its episodes, one after the other
    action.npy, observation.state.npy   (steps, D), if there are any
    histograms.npy           (episodes, views, 3, 256), see `stats`
    shard.json               the episodes, and what they have in common
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from math import isclose
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float32, Int64

from videopolicy.datasets.base import SAME_RATE
from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.stats import histogram
from videopolicy.errors import UserError
from videopolicy.media import Encoder
from videopolicy.types import Episode

_INDEX, _HISTOGRAMS = "shard.json", "histograms.npy"


@dataclass(frozen=True)
class ShardSchema:
    """What all episodes of a data set have in common.

    Attributes:
        sizes: view -> height and width of its frames.
        action: width of an action; None for video without actions.
        state: width of a state, or None.
    """

    sizes: Mapping[str, tuple[int, int]]
    action: int | None
    state: int | None

    @classmethod
    def of(cls, episode: Episode, views: Iterable[str]) -> "ShardSchema":
        """The kind of this episode, of which these views are wanted."""
        sizes = {view: (episode.views[view].shape[1], episode.views[view].shape[2]) for view in views}
        widths = (None if values is None else values.shape[1] for values in (episode.actions, episode.states))
        return cls(sizes, *widths)

    def check(self, other: "ShardSchema", where: str) -> None:
        """Refuses an episode of another kind.

        Raises:
            UserError: says how it differs, and what to do.
        """
        for view, size in self.sizes.items():
            if other.sizes[view] != size:
                raise UserError(
                    f"{where}: view {view!r} is {_size(other.sizes[view])} pixels, "
                    f"that of other episodes {_size(size)}; a view has one size, which --size gives all of them"
                )
        for name, own, its in (("actions", self.action, other.action), ("states", self.state, other.state)):
            if (own is None) != (its is None):
                has, have = ("has no", "have some") if its is None else ("has", "have none")
                raise UserError(
                    f"{where} {has} {name}, but others {have}; make two data sets of them, "
                    "and train on both with a mixture"
                )
            if own != its:
                raise UserError(
                    f"{where}: its {name} are {its} wide, those of other episodes {own}; a data set has one width"
                )


@dataclass(frozen=True)
class ShardEntry:
    """One episode of a shard: what is not frames and vectors, see `videopolicy.types.Episode`."""

    instruction: str
    task: str
    success: bool | None
    seed: int | None
    length: int
    labelled_by: str = ""
    confidence: float | None = None


@dataclass(frozen=True)
class Shard:
    """A shard that is complete.

    Attributes:
        folder: where it is.
        kind: of its episodes; None if there are none.
        entries: its episodes.
    """

    folder: Path
    kind: ShardSchema | None
    entries: tuple[ShardEntry, ...]

    @classmethod
    def load(cls, folder: Path) -> "Shard":
        """Opens a shard that a `ShardWriter` has finished."""
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        kind = index["kind"]
        if kind:
            kind = ShardSchema(
                {view: (height, width) for view, (height, width) in kind["sizes"]}, kind["action"], kind["state"]
            )
        return cls(folder, kind, tuple(ShardEntry(**entry) for entry in index["entries"]))

    def vectors(self) -> dict[str, Float32[np.ndarray, "N D"]]:
        """Actions and states of all its steps, as far as there are any, by the names of their features."""
        kind = self.kind
        widths = {spec.ACTION: kind and kind.action, spec.STATE: kind and kind.state}
        return {name: np.load(self.folder / f"{name}.npy") for name, width in widths.items() if width is not None}

    def histograms(self) -> Int64[np.ndarray, "episodes views 3 256"]:
        """How often each channel takes each value."""
        return np.load(self.folder / _HISTOGRAMS)

    def video(self, view: str) -> Path:
        """The file with all frames of this view."""
        return self.folder / f"{view}.mp4"


class ShardWriter:
    """A context manager that writes one shard; after an error the folder is of no use.

    Memory holds one block of frames, and the shard's actions and states.

    Args:
        folder: where; must exist, and be empty.
        fps: control steps a second.
        views: the cameras that every episode has.
        crf: see `videopolicy.media.Encoder`.
        kind: what all episodes must be; None takes it from the first.
    """

    def __init__(
        self, folder: Path, fps: float, views: tuple[str, ...], crf: int, kind: ShardSchema | None = None
    ) -> None:
        self._folder, self._fps, self._views, self._crf = folder, fps, views, crf
        self.kind = kind
        self.frames = 0
        self._entries: list[ShardEntry] = []
        self._encoders: dict[str, Encoder] = {}
        self._vectors: dict[str, list[np.ndarray]] = {}
        self._histograms: list[np.ndarray] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.finish()
        else:
            self.abandon()

    def add(self, blocks: Iterable[Episode], where: str) -> None:
        """Appends one episode, given as consecutive parts of it.

        Args:
            blocks: the parts; the first one says what the instruction is, and so on.
            where: what an error calls the episode.

        Raises:
            UserError: it lacks a view, has another rate or is of another kind than the others, has arrays of another
                type or shape than `videopolicy.types.Episode` says, or values that are not finite.
        """
        first, length, counts = None, 0, np.zeros((len(self._views), 3, 256), np.int64)
        for block in blocks:
            self.check(block, where)
            first = first or block
            counts += self._write(block)
            length += len(block)
        if first is None:
            raise UserError(f"{where} has no frames")
        marks = first.labelled_by, first.confidence
        self._entries.append(ShardEntry(first.instruction, first.task, first.success, first.seed, length, *marks))
        self._histograms.append(counts)

    def finish(self) -> None:
        """Completes the files."""
        self._close()
        for name, parts in self._vectors.items():
            np.save(self._folder / f"{name}.npy", np.concatenate(parts))
        shape = (len(self._entries), len(self._views), 3, 256)
        np.save(self._folder / _HISTOGRAMS, np.array(self._histograms, np.int64).reshape(shape))
        kind = self.kind and asdict(self.kind) | {"sizes": list(self.kind.sizes.items())}
        index = {"kind": kind, "entries": [asdict(entry) for entry in self._entries]}
        (self._folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")

    def abandon(self) -> None:
        """Closes the files after an error."""
        with suppress(OSError):  # a full disk; what was buffered is thrown away anyhow
            self._close()

    def _write(self, block: Episode) -> Int64[np.ndarray, "views 3 256"]:
        for name, values in ((spec.ACTION, block.actions), (spec.STATE, block.states)):
            if values is not None:
                self._vectors.setdefault(name, []).append(np.array(values, np.float32))
        for view in self._views:
            if view not in self._encoders:
                file = self._folder / f"{view}.mp4"
                self._encoders[view] = Encoder(file, self._fps, self._crf, full_colour=True)
            self._encoders[view].write(block.views[view])
        self.frames += len(block)
        return np.stack([histogram(block.views[view]) for view in self._views])

    def check(self, block: Episode, where: str) -> None:
        """Refuses what cannot be appended; see `add`."""
        missing = [view for view in self._views if view not in block.views]
        if missing:
            raise UserError(f"{where} lacks the view {missing[0]!r}; it has {', '.join(block.views)}")
        if not isclose(block.fps, self._fps, rel_tol=SAME_RATE):
            raise UserError(
                f"{where} has {block.fps:g} steps a second, the data set {self._fps:g}; a data set has one rate"
            )
        _check_types(block, self._views, where)
        lengths = {len(block.views[view]) for view in self._views}
        if len(lengths) > 1 or 0 in lengths:
            raise UserError(f"{where}: every view needs the same one or more frames, not {sorted(lengths)}")
        for name, values in (("actions", block.actions), ("states", block.states)):
            if values is not None and len(values) not in lengths:
                raise UserError(f"{where} has {len(values)} {name} for {len(block)} frames; one each is needed")
            if values is not None and not np.isfinite(values).all():
                raise UserError(f"{where} has {name} that are not finite numbers")
        kind = ShardSchema.of(block, self._views)
        if self.kind is None:
            self.kind = kind
        self.kind.check(kind, where)

    def _close(self) -> None:
        encoders, self._encoders = self._encoders, {}
        # All of them, even if the first finds the disk full.
        with ExitStack() as stack:
            for encoder in encoders.values():
                stack.callback(encoder.close)


def _check_types(block: Episode, views: Iterable[str], where: str) -> None:
    """Refuses what a caller without a type checker may give: tensors, lists, channels first, numbers from 0 to 1."""
    if not isinstance(block.instruction, str):
        raise UserError(f"{where}: its instruction is {block.instruction!r}; it must be a text")
    for view in views:
        frames = block.views[view]
        if _dtype(frames) != "uint8" or frames.ndim != 4 or frames.shape[3] != 3:
            raise UserError(f"{where}: view {view!r} is {_found(frames)}; it must be a NumPy array, uint8 (N, H, W, 3)")
    for name, values in (("actions", block.actions), ("states", block.states)):
        if values is not None and (np.dtype(_dtype(values)).kind not in "fiu" or values.ndim != 2):
            raise UserError(f"{where}: its {name} are {_found(values)}; they must be a NumPy array, float32 (N, width)")


def _dtype(values: object) -> str:
    return str(values.dtype) if isinstance(values, np.ndarray) else "object"


def _found(values: object) -> str:
    return f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width} x {height}"
