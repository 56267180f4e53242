"""What a data set is: episodes, some of whose views are decoded when asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from videopolicy.types import Episode


class Dataset(Protocol):
    """Recorded episodes on disk. Opening one reads its tables' descriptions, never its videos.

    Attributes:
        path: where it lies.
        views: the cameras that every episode has.
        fps: control steps a second.
        action_width: D, or None for a data set of video without actions.
        state_width: S, or None if no proprioception was recorded.
        tasks: the different instructions, in the order of the data set's own list.
        fingerprint: changes when the data set does; a key for caches.
    """

    path: Path
    views: tuple[str, ...]
    fps: float
    action_width: int | None
    state_width: int | None
    tasks: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        """The number of episodes."""
        ...

    def length(self, index: int) -> int:
        """The control steps of one episode, without decoding it."""
        ...

    def episode(self, index: int, views: Sequence[str] | None = None) -> Episode:
        """One episode, with only these views decoded (every view if None)."""
        ...
