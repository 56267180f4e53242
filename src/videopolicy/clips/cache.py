"""The latent cache: every frame, or every window of frames, is decoded and encoded once, then read from disk.

A folder with `codes.npy` (copies, steps, V, K, h, w) float16; `actions.npy` (steps, D) and `states.npy` (steps, S),
both float32, if there are any; and `index.json`. The steps of all episodes follow each other.

Where the latents encode several frames together, the codes are of windows, one that begins with every step: then
`codes.npy` is (copies, steps, V, 1+t, K, h, w). Past the end of its episode a window shows the last frame again.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int, Int64

from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.building import ACTIONS, CODES, DONE, INDEX, RECIPE, STATES, Encode, fill
from videopolicy.clips.decoding import Decoding, usable_workers
from videopolicy.clips.rows import Rows
from videopolicy.clips.windows import Window
from videopolicy.datasets.base import Dataset
from videopolicy.errors import UserError, unknown
from videopolicy.ownership import locked
from videopolicy.processes import end_if_unguarded

FORMAT = "videopolicy latent cache 2"


@dataclass(frozen=True, eq=False)
class Cache:
    """An opened cache; the arrays are memory-mapped, so that opening reads none of them.

    Attributes:
        views: names of the V views.
        fps: control steps a second.
        starts: first step of each of the E episodes.
        lengths: control steps of each episode.
        instructions: of each episode.
        tasks: of each episode, "" where unknown.
        has_actions: whether each episode has actions.
        codes: of frames, or of windows; copy 0 shows the frames as recorded, the others jittered.
        actions: in the env's own units, zeros where an episode has none; None if no episode has any.
        states: in the env's own units; None if none were recorded.
        rows: the codes once more, row copy * steps + step, read without mapping them.
        offsets: of the future frames of a window, in control steps from its first; None if the codes are of frames.
    """

    views: tuple[str, ...]
    fps: float
    starts: Int64[np.ndarray, "E"]
    lengths: Int64[np.ndarray, "E"]
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]
    has_actions: Bool[np.ndarray, "E"]
    codes: Float16[np.ndarray, "copies steps V *t K h w"]
    actions: Float32[np.ndarray, "steps D"] | None
    states: Float32[np.ndarray, "steps S"] | None
    rows: Rows
    offsets: tuple[int, ...] | None

    def read(self, copies: Int[np.ndarray, "*k"], steps: Int[np.ndarray, "*k"]) -> Float16[np.ndarray, "..."]:
        """The codes of these copies and steps, k of each, or a single one along a dimension that the other has.

        Returns:
            The frames', (*k, V, K, h, w); or those of the windows that begin there, (*k, V, 1+t, K, h, w).

        Raises:
            IndexError: no such copy or step.
        """
        if np.any(steps < 0) or np.any(steps >= self.codes.shape[1]):
            raise IndexError(f"step {steps} is not in 0 to {self.codes.shape[1] - 1}")
        return self.rows.read(copies * self.codes.shape[1] + steps)

    def window_shape(self, window: Window) -> tuple[int, ...]:
        """V, 1+t, K, h, w of a window's codes."""
        views, *code = self.codes.shape[2:]
        return (views, 1 + window.frames, *code) if self.offsets is None else (views, *code)

    def read_windows(
        self,
        window: Window,
        copies: Int[np.ndarray, "b"],
        episodes: Int[np.ndarray, "b"],
        starts: Int[np.ndarray, "b"],
    ) -> Float16[np.ndarray, "b V 1+t K h w"]:
        """The codes of the current image, and of the future after it, of windows that begin anywhere.

        Args:
            window: one that `check_window` has passed.
            copies: of each.
            episodes: their numbers, from 0.
            starts: step of its episode that each begins with.

        Raises:
            IndexError: no such copy or step.
        """
        first, lengths = self.starts[episodes], self.lengths[episodes]
        if self.offsets is not None:
            return self.read(copies, first + starts)
        return self.read(copies[:, None], first[:, None] + window.frame_indices(starts, lengths)).swapaxes(1, 2)

    def check_window(self, window: Window) -> None:
        """Raises UserError if it holds other windows than these."""
        if self.offsets is not None and self.offsets != window.offsets:
            raise UserError(
                f"{self.rows.path.parent} holds windows of frames {_listed(self.offsets)} control steps ahead, not "
                f"{_listed(window.offsets)}; build the latent cache for this window"
            )

    def known_actions(self) -> Iterator[Float32[np.ndarray, "n D"]]:
        """The actions of every episode that has them."""
        return self._where_acted(self.actions)

    def known_states(self) -> Iterator[Float32[np.ndarray, "n S"]]:
        """The states of every episode that has actions, if any were recorded."""
        return self._where_acted(self.states)

    def _where_acted(self, values: Float32[np.ndarray, "steps D"] | None) -> Iterator[Float32[np.ndarray, "n D"]]:
        if values is not None:
            for number in np.nonzero(self.has_actions)[0]:
                yield values[self.starts[number] : self.starts[number] + self.lengths[number]]


def build_cache(
    dataset: Dataset,
    folder: Path,
    encode: Encode,
    views: Sequence[str],
    *,
    window: Window | None = None,
    copies: int = 1,
    jitter: ColorJitter | None = None,
    seed: int = 0,
    key: str,
    workers: int | None = None,
) -> Cache:
    """Opens the cache in this folder, built anew unless it was built from exactly these arguments.

    A build that was killed goes on after the last episode that it recorded as done. What is in the cache does not
    depend on that, nor on the number of workers.

    Args:
        dataset: the demonstrations.
        folder: where the cache is, or will be.
        encode: frames of one view -> their codes; if a window is given, windows of one view -> their codes.
        views: which views to encode, in this order.
        window: which frames are encoded together, for latents over time; None encodes each frame
            alone, and the cache serves windows of all shapes.
        copies: how many versions of every frame to keep: the first as recorded, the others jittered.
        jitter: how far; drawn once for each episode, view and copy.
        seed: of those draws.
        key: names the encoder; another key means other codes.
        workers: processes that decode and jitter; None takes one a core, fewer if there is little to do.

    Raises:
        UserError: an unknown view, no episodes, episodes that disagree in frame size or action width, more copies
            without a jitter, a folder that holds something else, or that another process is filling.
    """
    end_if_unguarded()
    _check(dataset, views, copies, jitter)
    decoding = Decoding(dataset, tuple(views), copies, jitter, seed, window)
    recipe = _wanted(decoding, key)
    if _recipe(folder) != recipe:
        with locked(folder, "train"):
            # Somebody else may have built it meanwhile.
            if _recipe(folder) != recipe:
                building = folder.with_name(f".{folder.name}.building")
                frames = sum(map(dataset.length, range(len(dataset)))) * len(views) * copies
                fill(building, recipe, decoding, encode, usable_workers(frames) if workers is None else workers)
                if folder.exists():
                    shutil.rmtree(folder)
                building.rename(folder)
                for name in (RECIPE, DONE):
                    (folder / name).unlink()
    return open_cache(folder)


def open_cache(folder: Path) -> Cache:
    """Opens a cache that `build_cache` wrote.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if _recipe(folder) is None:
        raise UserError(f"{folder}: no latent cache; it is built from a data set when training starts")
    try:
        return _opened(folder, json.loads((folder / INDEX).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: damaged ({error}); remove this folder, and it is built again") from error


def _opened(folder: Path, index: dict[str, Any]) -> Cache:
    episodes, offsets = index["episodes"], index["recipe"].get("offsets")
    lengths = np.array([episode["length"] for episode in episodes], np.int64)

    def mapped(name: str) -> np.ndarray:
        # A plain view: indexing a memmap costs several times as much.
        return np.asarray(np.load(folder / name, mmap_mode="r"))

    return Cache(
        views=tuple(index["recipe"]["views"]),
        fps=index["fps"],
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        instructions=tuple(episode["instruction"] for episode in episodes),
        tasks=tuple(episode["task"] for episode in episodes),
        has_actions=np.array([episode["has_actions"] for episode in episodes], bool),
        codes=mapped(CODES),
        actions=mapped(ACTIONS) if (folder / ACTIONS).exists() else None,
        states=mapped(STATES) if (folder / STATES).exists() else None,
        rows=Rows(folder / CODES, leading=2),
        offsets=None if offsets is None else tuple(offsets),
    )


def _listed(offsets: Sequence[int]) -> str:
    return ", ".join(map(str, offsets))


def _check(dataset: Dataset, views: Sequence[str], copies: int, jitter: ColorJitter | None) -> None:
    for view in views:
        if view not in dataset.views:
            raise unknown("view", view, dataset.views)
    if not views or not len(dataset):
        raise UserError(f"{dataset.path}: a cache needs at least one view and one episode")
    if copies < 1 or (copies > 1 and jitter is None):
        raise UserError(f"{copies} copies of every frame: there must be at least 1, and more than 1 need a jitter")


def _wanted(decoding: Decoding, key: str) -> dict[str, Any]:
    """What decides what is in a cache."""
    recipe = {
        "format": FORMAT,
        "dataset": decoding.dataset.fingerprint,
        "views": list(decoding.views),
        "copies": decoding.copies,
        "jitter": asdict(decoding.jitter) if decoding.jitter else None,
        "seed": decoding.seed,
        "key": key,
    }
    return recipe if decoding.window is None else {**recipe, "offsets": list(decoding.window.offsets)}


def _recipe(folder: Path) -> dict[str, Any] | None:
    """What the cache in this folder was built from; None if there is nothing yet."""
    if not folder.exists() or not any(folder.iterdir()):
        return None
    try:
        recipe = json.loads((folder / INDEX).read_text(encoding="utf-8"))["recipe"]
        if str(recipe["format"]).startswith(FORMAT.rstrip("0123456789")):
            return recipe
    except (OSError, ValueError, KeyError, TypeError):
        pass
    # Rebuilding removes the folder, which must never take somebody's other files along.
    raise UserError(f"{folder} is there already, and is no latent cache; choose a new or empty folder")
