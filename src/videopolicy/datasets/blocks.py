"""Reads an episode of any length in blocks that fit into memory."""

from collections.abc import Iterator, Sequence

from videopolicy.datasets.base import Dataset
from videopolicy.types import Episode

# Frames of all views that are held in memory at once, in bytes.
BLOCK = 64 * 2**20


def blocks(dataset: Dataset, index: int, views: Sequence[str] | None = None) -> Iterator[tuple[int, int, Episode]]:
    """First step, the one after the last, and what was read of each block of an episode.

    The first step comes alone, which tells how large frames are; then as many at once as fit.
    """
    length, start, size = dataset.length(index), 0, 1
    while start < length:
        stop = min(start + size, length)
        block = dataset.episode(index, views, start, stop)
        yield start, stop, block
        start = stop
        a_step = sum(frames[:1].nbytes for frames in block.views.values())
        size = max(1, BLOCK // max(a_step, 1))
