"""One episode, read once and in blocks, with what the checks need of it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.blocks import blocks
from videopolicy.datasets.checking.frames import Pictures
from videopolicy.types import Episode


@dataclass(frozen=True)
class Read:
    """What is left of an episode after its frames were let go.

    Attributes:
        instruction: what is done, in words.
        fps: its own rate.
        steps: how many were read; fewer than the episode's length if `miscount` says so.
        pictures: what was seen in its frames.
        actions: all of them, or None.
        states: all of them, or None.
        digest: of the actions, or of the frames if there are no actions.
        miscount: how the numbers of frames, actions and states differ, in words; "" if they do not.
    """

    instruction: str
    fps: float
    steps: int
    pictures: Pictures
    actions: Float32[np.ndarray, "N D"] | None
    states: Float32[np.ndarray, "N S"] | None
    digest: bytes
    miscount: str


def read(dataset: Dataset, index: int, progress: Callable[[int], object]) -> Read:
    """Reads an episode, up to where its counts differ.

    Args:
        dataset: any data set.
        index: which episode.
        progress: is told how many more steps are done, in the end as many as the episode has, whatever happens.

    Raises:
        UserError: it cannot be read.
    """
    length, done, miscount = dataset.length(index), 0, ""
    pictures, digest = Pictures(length), hashlib.blake2b(digest_size=16)
    vectors: dict[str, list[np.ndarray]] = {"actions": [], "states": []}
    block = Episode({}, "", dataset.fps)
    try:
        for start, stop, block in blocks(dataset, index):
            if miscount := _miscount(block, start, stop, length):
                break
            pictures.add(block.views)
            # Actions decide whether an episode is a copy; videos are stored with losses, and do not stay the same.
            for values in block.views.values() if block.actions is None else [block.actions]:
                digest.update(np.ascontiguousarray(values).data)
            for name, values in (("actions", block.actions), ("states", block.states)):
                vectors[name] += [] if values is None else [values]
            done += len(block)
            progress(len(block))
    finally:
        progress(length - done)
    pictures.finish()
    actions, states = (np.concatenate(parts) if parts else None for parts in vectors.values())
    return Read(block.instruction, block.fps, done, pictures, actions, states, digest.digest(), miscount)


def _miscount(block: Episode, start: int, stop: int, length: int) -> str:
    counts = {f"frames of {view}": len(frames) for view, frames in block.views.items()}
    counts |= {
        name: len(values)
        for name, values in (("actions", block.actions), ("states", block.states))
        if values is not None
    }
    if set(counts.values()) <= {stop - start}:
        return ""
    found = ", ".join(f"{start + count} {name}" for name, count in counts.items())
    return f"{found}, of an episode of {length} steps"
