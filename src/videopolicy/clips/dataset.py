"""Clips of latent caches: every control step of every episode starts one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from videopolicy.clips.cache import Cache
from videopolicy.clips.normalize import MinMax
from videopolicy.clips.order import Order
from videopolicy.clips.windows import Window
from videopolicy.errors import UserError
from videopolicy.types import Clip


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Clips stacked along a first axis.

    Attributes:
        current: codes of the current images.
        future: codes of the next frames.
        actions: normalised; zeros where a clip has none.
        has_actions: whether each clip has actions.
        instructions: one a clip.
    """

    current: Float32[np.ndarray, "B V C h w"]
    future: Float32[np.ndarray, "B V T C h w"]
    actions: Float32[np.ndarray, "B A D"]
    has_actions: Bool[np.ndarray, "B"]
    instructions: list[str]


@dataclass(frozen=True, eq=False)
class Episodes:
    """E episodes of several caches, those of one cache together.

    Attributes:
        source: the cache of each.
        first: its first step in that cache.
        lengths: its control steps.
        instructions: its instruction.
        tasks: its task, "" where unknown.
        has_actions: whether it has actions.
    """

    source: Int64[np.ndarray, "E"]
    first: Int64[np.ndarray, "E"]
    lengths: Int64[np.ndarray, "E"]
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]
    has_actions: Bool[np.ndarray, "E"]

    @classmethod
    def of(cls, caches: Sequence[Cache]) -> "Episodes":
        """All of these caches."""
        return cls(
            np.repeat(np.arange(len(caches)), [len(cache.lengths) for cache in caches]),
            np.concatenate([cache.starts for cache in caches]),
            np.concatenate([cache.lengths for cache in caches]),
            tuple(instruction for cache in caches for instruction in cache.instructions),
            tuple(task for cache in caches for task in cache.tasks),
            np.concatenate([cache.has_actions for cache in caches]),
        )

    def take(self, chosen: Int64[np.ndarray, "e"]) -> "Episodes":
        """Some of them, by their numbers, which must rise."""
        return Episodes(
            self.source[chosen],
            self.first[chosen],
            self.lengths[chosen],
            tuple(self.instructions[number] for number in chosen),
            tuple(self.tasks[number] for number in chosen),
            self.has_actions[chosen],
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> Int64[np.ndarray, "E"]:
        """The clip that each begins with, counted over all episodes."""
        return np.cumsum(self.lengths) - self.lengths


class Clips:
    """All clips of some caches: clip i begins with step i, counted over the episodes of all caches.

    `clips[i, copy]` is one clip; `clips.batch` reads many at once, much faster. None of them is held in memory.

    Attributes:
        window: which frames and actions a clip holds.
        normalizer: of the actions; None if no episode has any.
        episodes: where the clips come from.
        fps: control steps a second.
    """

    def __init__(
        self,
        caches: Sequence[Cache],
        window: Window,
        normalizer: MinMax | None = None,
        weights: Sequence[float] | None = None,
        *,
        episodes: Episodes | None = None,
    ) -> None:
        """Clips of this window.

        Args:
            caches: the codes and actions, of the same views, sizes, widths and fps.
            window: which of them belong to a clip.
            normalizer: of the actions; None fits one to the caches'.
            weights: shares of the caches in the training order; None for their numbers of clips.
            episodes: only these; None takes all.

        Raises:
            UserError: an episode is shorter than the window, or actions of another width than the normaliser's.
        """
        self.window, self.episodes = window, Episodes.of(caches) if episodes is None else episodes
        window.check(self.episodes.lengths.tolist())
        self.normalizer = normalizer or _fitted(caches)
        for cache in caches:
            if self.normalizer and cache.actions is not None:
                self.normalizer.check_width(cache.actions.shape[1])
        self.fps = caches[0].fps
        self._caches, self._weights = tuple(caches), weights
        self._starts = self.episodes.starts
        sizes = np.bincount(self.episodes.source, self.episodes.lengths, len(caches)).astype(int)
        self._order = Order(sizes.tolist(), weights)

    def __len__(self) -> int:
        return int(self.episodes.lengths.sum())

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        return self.clip(*key)

    @property
    def instructions(self) -> tuple[str, ...]:
        """Every instruction that occurs, once, sorted."""
        return tuple(sorted(set(self.episodes.instructions)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every known task that occurs, once, sorted."""
        return tuple(sorted({task for task in self.episodes.tasks if task}))

    @property
    def share_with_actions(self) -> float:
        """The share of clips with actions in the training order."""
        with_actions = self.episodes.lengths * self.episodes.has_actions
        counts = np.bincount(self.episodes.source, with_actions, len(self._caches))
        return float(counts / np.maximum(self._order.sizes, 1) @ self._order.shares)

    def at(self, positions: Int64[np.ndarray, "n"], seed: int) -> Int64[np.ndarray, "n"]:
        """The clips at these positions of the endless training order of this seed (see `videopolicy.clips.order`)."""
        return self._order.at(positions, seed)

    def split(self, episodes: int) -> tuple["Clips", "Clips"]:
        """Clips to train on, and clips of so many whole episodes that are held out, spread evenly over the tasks.

        Raises:
            UserError: a source would be left with nothing to train on.
        """
        every = self.episodes
        # Sorted by source and task, and evenly spaced in that: each of them gives in the proportion of its size.
        ranked = sorted(range(len(every)), key=lambda n: (every.source[n], every.tasks[n], every.instructions[n], n))
        chosen = [ranked[(2 * k + 1) * len(ranked) // (2 * episodes)] for k in range(min(episodes, len(ranked)))]
        held = np.isin(np.arange(len(every)), chosen)
        if set(every.source[~held]) != set(every.source):
            raise UserError(
                f"{episodes} of {len(every)} episodes held out leave a data set with none to train on; hold out fewer"
            )
        return self._only(np.nonzero(~held)[0]), self._only(np.nonzero(held)[0])

    def clip(self, index: int, copy: int = 0) -> Clip:
        """One clip; copy 0 shows the frames as recorded.

        Raises:
            IndexError: no such clip or copy.
        """
        batch = self._gather(np.array([index]), np.array([copy]))
        actions = batch.actions[0] if batch.has_actions[0] else None
        return Clip(batch.current[0], batch.future[0], batch.instructions[0], actions)

    def batch(self, indices: Int[np.ndarray, "B"], rng: np.random.Generator | None) -> ClipBatch:
        """These clips, each from a random copy; without a generator, from copy 0, as recorded.

        Raises:
            IndexError: no such clip.
        """
        none = np.zeros(len(indices), np.int64)
        copies = none if rng is None else rng.integers(len(self._caches[0].codes), size=len(indices))
        return self._gather(indices, copies)

    def _only(self, chosen: Int64[np.ndarray, "e"]) -> "Clips":
        weights = self._weights if len(set(self.episodes.source[chosen])) == len(self._caches) else None
        return Clips(self._caches, self.window, self.normalizer, weights, episodes=self.episodes.take(chosen))

    def _gather(self, indices: Int[np.ndarray, "B"], copies: Int[np.ndarray, "B"]) -> ClipBatch:
        if np.any(indices < 0) or np.any(indices >= len(self)):
            raise IndexError(f"clip {indices} is not in 0 to {len(self) - 1}")
        episodes = np.searchsorted(self._starts, indices, side="right") - 1
        first, lengths = self.episodes.first[episodes], self.episodes.lengths[episodes]
        starts = indices - self._starts[episodes]
        frames = first[:, None] + self.window.frame_indices(starts, lengths)
        steps = first[:, None] + self.window.action_indices(starts, lengths)
        sources = self.episodes.source[episodes]
        has_actions = self.episodes.has_actions[episodes]
        codes = np.empty((*frames.shape, *self._caches[0].codes.shape[2:]), np.float32)
        for source in np.unique(sources):
            mine = sources == source
            codes[mine] = self._caches[source].read(copies[mine, None], frames[mine])
        return ClipBatch(
            current=codes[:, 0],
            future=np.ascontiguousarray(codes[:, 1:].swapaxes(1, 2)),
            actions=self._actions(sources, steps, has_actions),
            has_actions=has_actions,
            instructions=[self.episodes.instructions[episode] for episode in episodes],
        )

    def _actions(
        self, sources: Int64[np.ndarray, "B"], steps: Int[np.ndarray, "B A"], has_actions: Bool[np.ndarray, "B"]
    ) -> Float32[np.ndarray, "B A D"]:
        width = len(self.normalizer.low) if self.normalizer else 0
        actions = np.zeros((*steps.shape, width), np.float32)
        for source, cache in enumerate(self._caches):
            mine = has_actions & (sources == source)
            if self.normalizer and cache.actions is not None and mine.any():
                actions[mine] = self.normalizer.apply(cache.actions[steps[mine]])
        return actions


def _fitted(caches: Sequence[Cache]) -> MinMax | None:
    """The ranges of all known actions, read episode by episode; None if there are none."""
    ranges = [MinMax.fit(actions) for cache in caches for actions in cache.known_actions()]
    return reduce(MinMax.union, ranges) if ranges else None
