"""Fills the arrays of a latent cache, block by block, so that a build that was killed goes on where it was.

Every line of `done.jsonl` is an episode whose rows are safely on the disk; `index.json`, which makes a cache of the
folder, comes last.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int, UInt8

from videopolicy.clips.decoding import Block, Decoded, Decoding, decode
from videopolicy.clips.rows import Rows
from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.progress import progress_bar, say

# Frames of one view (n, H, W, 3) -> their codes (n, K, h, w); or windows (n, 1+T, H, W, 3) -> theirs (n, 1+t, K, h, w).
Encode = Callable[[UInt8[np.ndarray, "n *t H W 3"]], Float32[np.ndarray, "n *t K h w"]]

# Frames of a view given to the encoder at once, or of as many windows: bounds its memory, however long the episode.
CHUNK = 64
# Seconds between two syncs with the disk: what a killed build does again.
SYNC_EVERY = 1.0
RECIPE, DONE, INDEX = "recipe.json", "done.jsonl", "index.json"
CODES, ACTIONS, STATES = "codes.npy", "actions.npy", "states.npy"


def fill(folder: Path, recipe: dict[str, Any], decoding: Decoding, encode: Encode, workers: int) -> None:
    """Makes a cache in this folder, going on with what was begun there from the same recipe.

    Args:
        folder: of the build.
        recipe: names everything that decides what is in the arrays.
        decoding: the data set, views and copies, and the window, if windows are encoded.
        encode: frames, or windows, of one view -> their codes.
        workers: processes that decode.

    Raises:
        UserError: episodes that disagree in frame size or width, values that are not finite, too little room.
    """
    _begin(folder, recipe)
    try:
        with closing(_Filling(folder, decoding, encode)) as filling:
            filling.run(workers)
            episodes = filling.episodes
        if not any(episode["has_actions"] for episode in episodes):
            (folder / ACTIONS).unlink(missing_ok=True)
        index = {"recipe": recipe, "fps": decoding.dataset.fps, "episodes": episodes}
        with name_path_in_errors(folder / INDEX):
            (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    except BaseException as error:
        kept = len(_lines(folder / DONE))
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        elif isinstance(error, KeyboardInterrupt):
            told = f"{kept} of {len(decoding.dataset)} episodes are encoded and kept in {folder}"
            say(f"{told}: the same command goes on from there")
        raise


def _begin(folder: Path, recipe: dict[str, Any]) -> None:
    """An empty folder, unless a build of this recipe got as far as an episode."""
    try:
        same = json.loads((folder / RECIPE).read_text(encoding="utf-8")) == recipe
    except (OSError, ValueError):
        same = False
    if not same or not _lines(folder / DONE):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        with name_path_in_errors(folder / RECIPE):
            (folder / RECIPE).write_text(json.dumps(recipe), encoding="utf-8")


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; one that was torn by a kill is none."""
    if not path.exists():
        return []
    return [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
    ]


class _Filling:
    """One build; `episodes` are those that are done."""

    def __init__(self, folder: Path, decoding: Decoding, encode: Encode) -> None:
        self.folder, self.decoding, self.encode, self.dataset = folder, decoding, encode, decoding.dataset
        self.lengths = [self.dataset.length(number) for number in range(len(self.dataset))]
        self.starts = np.cumsum([0, *self.lengths])
        self.episodes = _lines(folder / DONE)
        self._synced, self._saved = len(self.episodes), time.monotonic()
        self._write_done("w", self.episodes)
        self._shape: tuple[int, ...] | None = None
        self._codes = Rows(folder / CODES, 2, writable=True) if self.episodes else self._create_codes()
        # Also of what was begun before: codes of another size would be written over others.
        self._shape = tuple(self._codes.shape[1:])
        self._vectors = {
            ACTIONS: self._open_vectors(ACTIONS, self.dataset.action_width),
            STATES: self._open_vectors(STATES, self.dataset.state_width),
        }

    def run(self, workers: int) -> None:
        """Every block that is left, in order."""
        views = len(self.decoding.views)
        steps, done = int(self.starts[-1]), int(self.starts[len(self.episodes)])
        unit = "frame" if self.decoding.window is None else "window"
        told = {"desc": f"encoding {unit}s", "unit": unit, "unit_scale": True}
        bar = progress_bar(total=steps * views, initial=done * views, **told)
        with bar, closing(decode(self.decoding, list(self._left()), workers)) as blocks:
            try:
                for decoded in blocks:
                    self._write(decoded)
                    bar.update(len(decoded.block) * views)
            finally:
                self._sync()

    def close(self) -> None:
        """Closes the files."""
        with ExitStack() as stack:
            for rows in self._arrays:
                stack.callback(rows.close)

    @property
    def _arrays(self) -> list[Rows]:
        return [rows for rows in (self._codes, *self._vectors.values()) if rows is not None]

    def _left(self) -> Iterator[Block]:
        for number in range(len(self.episodes), len(self.lengths)):
            for start in range(0, self.lengths[number], CHUNK):
                yield Block(number, start, min(start + CHUNK, self.lengths[number]))

    def _write(self, decoded: Decoded) -> None:
        block, episode = decoded.block, decoded.episode
        where = f"{self.dataset.path}: episode {block.episode}"
        for copy in range(self.decoding.copies):
            codes = np.stack([self._encoded(decoded, v, copy, where) for v in range(len(decoded.frames))], 1)
            self._codes.write(copy * int(self.starts[-1]) + self._row(block), codes)
        if episode.actions is not None:
            self._write_vectors(ACTIONS, block, episode.actions, where)
        if self.dataset.state_width is not None:
            self._write_vectors(STATES, block, episode.states, where)
        if block.stop == self.lengths[block.episode]:
            about = {"length": block.stop, "instruction": episode.instruction, "task": episode.task}
            self.episodes.append({**about, "has_actions": episode.actions is not None})
            if time.monotonic() - self._saved > SYNC_EVERY:
                self._sync()

    def _row(self, block: Block) -> int:
        return int(self.starts[block.episode]) + block.start

    def _encoded(self, decoded: Decoded, v: int, copy: int, where: str) -> Float16[np.ndarray, "n *t K h w"]:
        frames, block = decoded.frames[v][copy], decoded.block
        where = f"{where}, view {self.decoding.views[v]!r}"
        steps = len(block) + self.decoding.beyond(block)
        if len(frames) != steps:
            raise UserError(f"{where}: {len(frames)} frames, but {steps} control steps from {block.start} on")
        codes = np.concatenate([self.encode(frames[part]) for part in self._parts(block)]).astype(np.float16)
        expected = self._shape = self._shape or codes.shape[1:]
        if codes.shape[1:] != expected:
            raise UserError(
                f"{where}: codes of shape {codes.shape[1:]}, but {expected} before; all frames must have one size"
            )
        if not np.isfinite(codes).all():
            raise UserError(f"{where}: codes that are no finite float16 numbers; is the encoder sound?")
        return codes

    def _parts(self, block: Block) -> Iterator[slice | Int[np.ndarray, "n 1+T"]]:
        """What the encoder is given at once, as places in the block's frames: all frames, or a few windows of them."""
        window = self.decoding.window
        if window is None:
            yield slice(None)
            return
        steps = window.frame_indices(np.arange(block.start, block.stop), self.lengths[block.episode])
        most = max(1, CHUNK // steps.shape[1])
        yield from np.array_split(steps - block.start, math.ceil(len(steps) / most))

    def _create_codes(self) -> Rows:
        # One frame of each view shows how much room the cache takes, before anything long begins.
        first = replace(self.decoding, copies=1)(Block(0, 0, 1))
        where = f"{self.dataset.path}: episode 0"
        codes = np.stack([self._encoded(first, v, 0, where) for v in range(len(first.frames))], 1)
        leading = (self.decoding.copies, int(self.starts[-1]))
        needed = math.prod(leading) * codes[0].nbytes
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"{self.folder.parent}: the latent cache needs {needed / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are "
                "free; put it on another disk, or use fewer views or copies"
            )
        if self.decoding.window is not None:
            # Windows overlap: their codes may well be larger than the videos.
            told = f"{math.prod(leading):,} windows of each view, {needed / 1e9:,.2f} GB"
            say(f"{self.folder.parent}: the latent cache will hold {told}")
        return Rows.create(self.folder / CODES, np.float16, leading, codes.shape[1:])

    def _open_vectors(self, name: str, width: int | None) -> Rows | None:
        path = self.folder / name
        if width is None:
            return None
        if path.exists():
            return Rows(path, writable=True)
        return Rows.create(path, np.float32, (int(self.starts[-1]),), (width,))

    def _write_vectors(self, name: str, block: Block, values: np.ndarray | None, where: str) -> None:
        """Writes the actions or states of a block, which must be as the data set says."""
        rows, kind = self._vectors[name], Path(name).stem
        if values is None or rows is None:
            raise UserError(f"{where}: {kind} in only one of the episode and the data set's description")
        if values.shape[1:] != rows.shape:
            raise UserError(f"{where}: {kind} are {values.shape[1]} wide, but the data set says {rows.shape[0]}")
        if len(values) != len(block):
            raise UserError(f"{where}: {len(values)} {kind} for {len(block)} frames; each needs one")
        if not np.isfinite(values).all():
            raise UserError(f"{where}: {kind} that are not finite")
        rows.write(self._row(block), values)

    def _sync(self) -> None:
        """Records the episodes that are done, once their rows can no longer be lost."""
        new = self.episodes[self._synced :]
        if new:
            for rows in self._arrays:
                rows.flush()
            self._write_done("a", new)
        self._synced, self._saved = len(self.episodes), time.monotonic()

    def _write_done(self, mode: str, episodes: list[dict[str, Any]]) -> None:
        path = self.folder / DONE
        with name_path_in_errors(path), path.open(mode) as file:
            file.writelines(json.dumps(episode) + "\n" for episode in episodes)
