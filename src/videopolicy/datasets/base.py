"""What a data set is: episodes, some of whose views are decoded when asked for."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from videopolicy.datasets.notes import Note
from videopolicy.types import Episode

# Share of a rate by which another may differ and be the same one, measured: cameras of 29.97 and of 30.
SAME_RATE = 0.01


class Dataset(Protocol):
    """Recorded episodes on disk, those of them that can be read. Opening one decodes no video.

    What cannot be read costs itself alone, and is told in `notes`; only where nothing is left is there an error.

    Attributes:
        path: where it lies.
        views: the cameras that every episode has.
        fps: control steps a second.
        action_width: D, or None for a data set of video without actions.
        state_width: S, or None if no proprioception was recorded.
        action_layout: what the action's dimensions mean (see `videopolicy.actions.layout`), "" if unspecified.
        state_layout: the same of the state.
        tasks: the different instructions, in the order of the data set's own list.
        notes: what is left out, mended or not used of what is on disk.
        fingerprint: changes when the data set does; a key for caches.
    """

    path: Path
    views: tuple[str, ...]
    fps: float
    action_width: int | None
    state_width: int | None
    action_layout: str
    state_layout: str
    tasks: tuple[str, ...]
    notes: tuple[Note, ...]
    fingerprint: str

    def __len__(self) -> int:
        """The number of episodes."""
        ...

    def length(self, index: int) -> int:
        """The control steps of one episode, without decoding it."""
        ...

    def number(self, index: int) -> int:
        """What the files call an episode: its number on disk, where those that are left out are counted, too."""
        ...

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1, with only these views decoded (every view if None).

        Only the frames asked for are held in memory, so that an episode of any length can be read in blocks.
        """
        ...


@runtime_checkable
class Rated(Protocol):
    """A `Dataset` of files each of which has a rate of its own."""

    def rates(self) -> Iterable[tuple[Path, float]]:
        """Each file, and its frames a second."""
        ...
