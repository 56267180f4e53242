"""A data set in memory, of a few small random episodes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from videopolicy.datasets.notes import Note
from videopolicy.types import Episode

VIEWS = ("front", "wrist")
SIZE = 8


@dataclass(frozen=True)
class Memory:
    """Episodes as a data set."""

    episodes: tuple[Episode, ...]
    path: Path = Path("demonstrations")
    fingerprint: str = "as recorded"
    views: tuple[str, ...] = VIEWS
    fps: float = 20.0
    state_width: int | None = None
    action_width: int | None = 3
    action_layout: str = ""
    state_layout: str = ""
    notes: tuple[Note, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted({episode.task for episode in self.episodes}))

    def __len__(self) -> int:
        return len(self.episodes)

    def number(self, index: int) -> int:
        return index

    def length(self, index: int) -> int:
        return len(self.episodes[index])

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        episode, part = self.episodes[index], slice(start, stop)
        actions, states = (None if values is None else values[part] for values in (episode.actions, episode.states))
        frames = {view: episode.views[view][part] for view in views or self.views}
        return replace(episode, views=frames, actions=actions, states=states)

    def changed(self, index: int, **changes) -> "Memory":
        """The same data set, but for one episode."""
        episodes = list(self.episodes)
        episodes[index] = replace(episodes[index], **changes)
        return replace(self, episodes=tuple(episodes), fingerprint=f"{self.fingerprint}, but for {index}: {changes}")


@dataclass(frozen=True)
class Watched(Memory):
    """Notes how many steps it was asked for at once."""

    asked: list[int] = field(default_factory=list)

    def episode(self, index, views=None, start=0, stop=None):
        episode = super().episode(index, views, start, stop)
        self.asked.append(len(episode))
        return episode


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def record(rng):
    def random_episode(length, *, width=3, size=SIZE):
        return Episode(
            views={view: rng.integers(0, 256, (length, size, size, 3), np.uint8) for view in VIEWS},
            instruction=f"move {length} steps",
            fps=20.0,
            actions=rng.normal(size=(length, width)).astype(np.float32) if width else None,
            task=f"task-{length}",
        )

    return random_episode


@pytest.fixture
def dataset(record):
    """Three episodes; the second has no actions, the third is longer than one call of the encoder takes."""
    return Memory((record(11), record(9, width=None), record(70)))


@pytest.fixture
def encode():
    """Codes that show which frame they came from: the mean colour of every square of 4 pixels."""

    def means(frames):
        n, height, width, _ = frames.shape
        squares = frames.reshape(n, height // 4, 4, width // 4, 4, 3).mean((2, 4))
        return (squares / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32)

    return means
