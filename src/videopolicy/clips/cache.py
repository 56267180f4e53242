"""The latent cache: every frame is decoded and encoded once, then read from disk through a memory map.

A folder with `codes.npy` (copies, steps, V, C, h, w) float16, `actions.npy` (steps, D) float32 if there are any,
and `index.json`. The steps of all episodes follow each other.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int64, UInt8
from numpy.lib.format import open_memmap
from tqdm import tqdm

from videopolicy.clips.augment import ColorJitter
from videopolicy.demos.base import Dataset
from videopolicy.errors import UserError, naming, unknown
from videopolicy.types import Episode, Frames

Encode = Callable[[UInt8[np.ndarray, "n H W 3"]], Float32[np.ndarray, "n C h w"]]

FORMAT = "videopolicy latent cache 1"
# Frames given to the encoder at once: bounds its memory, however long the episode.
CHUNK = 64


@dataclass(frozen=True, eq=False)
class Cache:
    """An opened cache; the arrays are memory-mapped.

    Attributes:
        views: names of the V views.
        fps: control steps a second.
        starts: first step of each of the E episodes.
        lengths: control steps of each episode.
        instructions: of each episode.
        tasks: of each episode, "" where unknown.
        has_actions: whether each episode has actions.
        codes: copy 0 shows the frames as recorded, the others jittered.
        actions: in the world's own units, zeros where an episode has none; None if no episode has any.
    """

    views: tuple[str, ...]
    fps: float
    starts: Int64[np.ndarray, "E"]
    lengths: Int64[np.ndarray, "E"]
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]
    has_actions: np.ndarray
    codes: Float16[np.ndarray, "copies steps V C h w"]
    actions: Float32[np.ndarray, "steps D"] | None

    def known_actions(self) -> Float32[np.ndarray, "n D"]:
        """The actions of every episode that has them, one after the other; (0, 0) if none has."""
        if self.actions is None:
            return np.zeros((0, 0), np.float32)
        return self.actions[np.repeat(self.has_actions, self.lengths)]


def build_cache(
    dataset: Dataset,
    folder: Path,
    encode: Encode,
    views: Sequence[str],
    *,
    copies: int = 1,
    jitter: ColorJitter | None = None,
    seed: int = 0,
    key: str,
) -> Cache:
    """Opens the cache in this folder, built anew unless it was built from exactly these arguments.

    Args:
        dataset: the demonstrations.
        folder: where the cache is, or will be.
        encode: frames of one view -> their codes.
        views: which views to encode, in this order.
        copies: how many versions of every frame to keep: the first as recorded, the others jittered.
        jitter: how far; drawn once for each episode, view and copy.
        seed: of those draws.
        key: names the encoder; another key means other codes.

    Raises:
        UserError: an unknown view, no episodes, episodes that disagree in frame size or action width, more copies
            without a jitter, or a folder that holds something else.
    """
    _check(dataset, views, copies, jitter)
    recipe = {
        "format": FORMAT,
        "dataset": dataset.fingerprint,
        "views": list(views),
        "copies": copies,
        "jitter": asdict(jitter) if jitter else None,
        "seed": seed,
        "key": key,
    }
    if _recipe(folder) != recipe:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = folder.with_name(f".{folder.name}.{os.getpid()}")
        building.mkdir()
        try:
            draws = _Draws(jitter, copies, seed)
            index = _Builder(dataset, building, encode, tuple(views), draws).run()
            (building / "index.json").write_text(json.dumps({"recipe": recipe, **index}, indent=1))
            if folder.exists():
                shutil.rmtree(folder)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return open_cache(folder)


def open_cache(folder: Path) -> Cache:
    """Opens a cache that `build_cache` wrote.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if _recipe(folder) is None:
        raise UserError(f"{folder}: no latent cache; it is built from a data set when training starts")
    try:
        return _opened(folder, json.loads((folder / "index.json").read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: damaged ({error}); remove this folder, and it is built again") from error


def _opened(folder: Path, index: dict[str, Any]) -> Cache:
    episodes = index["episodes"]
    lengths = np.array([episode["length"] for episode in episodes], np.int64)
    actions = folder / "actions.npy"
    return Cache(
        views=tuple(index["recipe"]["views"]),
        fps=index["fps"],
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        instructions=tuple(episode["instruction"] for episode in episodes),
        tasks=tuple(episode["task"] for episode in episodes),
        has_actions=np.array([episode["has_actions"] for episode in episodes], bool),
        codes=np.load(folder / "codes.npy", mmap_mode="r"),
        actions=np.load(actions, mmap_mode="r") if actions.exists() else None,
    )


def _check(dataset: Dataset, views: Sequence[str], copies: int, jitter: ColorJitter | None) -> None:
    for view in views:
        if view not in dataset.views:
            raise unknown("view", view, dataset.views)
    if not views or not len(dataset):
        raise UserError(f"{dataset.path}: a cache needs at least one view and one episode")
    if copies < 1 or (copies > 1 and jitter is None):
        raise UserError(f"{copies} copies of every frame: there must be at least 1, and more than 1 need a jitter")


def _recipe(folder: Path) -> dict[str, Any] | None:
    """What the cache in this folder was built from; None if there is nothing yet."""
    if not folder.exists() or not any(folder.iterdir()):
        return None
    try:
        recipe = json.loads((folder / "index.json").read_text())["recipe"]
        if str(recipe["format"]).startswith(FORMAT.rstrip("0123456789")):
            return recipe
    except (OSError, ValueError, KeyError, TypeError):
        pass
    # Rebuilding removes the folder, which must never take somebody's other files along.
    raise UserError(f"{folder} is there already, and is no latent cache; choose a new or empty folder")


@dataclass(frozen=True)
class _Draws:
    jitter: ColorJitter | None
    copies: int
    seed: int

    def apply(self, frames: Frames, copy: int, episode: int, view: int) -> Frames:
        if copy == 0 or self.jitter is None:
            return frames
        rng = np.random.default_rng([self.seed, copy, episode, view])
        return self.jitter.draw(rng).apply(frames)


class _Builder:
    """Writes the arrays of a cache, one episode in memory at a time."""

    def __init__(self, dataset: Dataset, folder: Path, encode: Encode, views: tuple[str, ...], draws: _Draws) -> None:
        self.dataset, self.folder, self.encode, self.views, self.draws = dataset, folder, encode, views, draws
        self.steps = sum(dataset.length(index) for index in range(len(dataset)))
        self.codes: np.memmap | None = None
        self.actions: np.memmap | None = None

    def run(self) -> dict[str, Any]:
        episodes, start = [], 0
        for number in tqdm(range(len(self.dataset)), desc="encoding frames", unit="episode"):
            episode = self.dataset.episode(number, self.views)
            if len(episode) != self.dataset.length(number):
                raise UserError(
                    f"{self.dataset.path}: episode {number} has {len(episode)} frames, "
                    f"but {self.dataset.length(number)} control steps"
                )
            self._write_codes(episode, number, start)
            self._write_actions(episode, number, start)
            episodes.append(
                {
                    "length": len(episode),
                    "instruction": episode.instruction,
                    "task": episode.task,
                    "has_actions": episode.actions is not None,
                }
            )
            start += len(episode)
        for array in (self.codes, self.actions):
            if array is not None:
                array.flush()
        return {"fps": self.dataset.fps, "episodes": episodes}

    def _write_codes(self, episode: Episode, number: int, start: int) -> None:
        for v, view in enumerate(self.views):
            frames = episode.views[view]
            for first in range(0, len(frames), CHUNK):
                chunk = frames[first : first + CHUNK]
                for copy in range(self.draws.copies):
                    codes = self.encode(self.draws.apply(chunk, copy, number, v)).astype(np.float16)
                    where = f"{self.dataset.path}: episode {number}, view {view!r}"
                    self.codes = self.codes if self.codes is not None else self._create_codes(codes)
                    if codes.shape[1:] != self.codes.shape[3:]:
                        raise UserError(
                            f"{where}: codes of shape {codes.shape[1:]}, but {self.codes.shape[3:]} before; "
                            "all frames must have one size"
                        )
                    if not np.isfinite(codes).all():
                        raise UserError(f"{where}: codes that are no finite float16 numbers; is the encoder sound?")
                    self.codes[copy, start + first : start + first + len(chunk), v] = codes

    def _create_codes(self, codes: Float16[np.ndarray, "n C h w"]) -> np.memmap:
        shape = (self.draws.copies, self.steps, len(self.views), *codes.shape[1:])
        needed, free = math.prod(shape) * codes.itemsize, shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"{self.folder.parent}: the latent cache needs {needed / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are "
                "free; put it on another disk, or use fewer views or copies"
            )
        return _reserved(self.folder / "codes.npy", np.float16, shape)

    def _write_actions(self, episode: Episode, number: int, start: int) -> None:
        if episode.actions is None:
            return
        width = episode.actions.shape[1]
        if self.actions is None:
            self.actions = _reserved(self.folder / "actions.npy", np.float32, (self.steps, width))
        where = f"{self.dataset.path}: episode {number}"
        if width != self.actions.shape[1]:
            raise UserError(f"{where}: actions are {width} wide, but {self.actions.shape[1]} in the episodes before")
        if len(episode.actions) != len(episode):
            raise UserError(f"{where}: {len(episode.actions)} actions for {len(episode)} frames; each needs one")
        if not np.isfinite(episode.actions).all():
            raise UserError(f"{where}: an action is not finite")
        self.actions[start : start + len(episode)] = episode.actions


def _reserved(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A new memory-mapped array whose room on the disk is taken at once.

    A map that runs out of disk while it is written kills the process without a word.
    """
    with naming(path):
        array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
