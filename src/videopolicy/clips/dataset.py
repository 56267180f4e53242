"""Clips of a latent cache: every control step of every episode starts one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from videopolicy.clips.cache import Cache
from videopolicy.clips.normalize import MinMax
from videopolicy.clips.windows import Window
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


class Clips:
    """All clips of a cache: index i is the clip whose current step is i, counted over all episodes.

    `clips[i, copy]` is one clip; `clips.batch` reads many at once, much faster.

    Attributes:
        cache: where the codes come from.
        window: which frames and actions a clip holds.
        normalizer: of the actions; None if no episode has any.
    """

    def __init__(self, cache: Cache, window: Window, normalizer: MinMax | None = None) -> None:
        """Clips of this window.

        Args:
            cache: the codes and actions.
            window: which of them belong to a clip.
            normalizer: of the actions; None fits one to the cache's.

        Raises:
            UserError: an episode is shorter than the window, or the normaliser is for another action width.
        """
        window.check(cache.lengths.tolist())
        if normalizer is None and cache.actions is not None:
            normalizer = MinMax.fit(cache.known_actions())
        self.cache, self.window, self.normalizer = cache, window, normalizer
        # A plain view: indexing a memmap costs several times as much.
        self._codes = np.asarray(cache.codes)
        self._episode = np.repeat(np.arange(len(cache.lengths)), cache.lengths)
        self._actions = self._normalised()

    def __len__(self) -> int:
        return len(self._episode)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        return self.clip(*key)

    @property
    def instructions(self) -> tuple[str, ...]:
        """Every instruction that occurs, once, sorted."""
        return tuple(sorted(set(self.cache.instructions)))

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
        return self._gather(indices, none if rng is None else rng.integers(len(self._codes), size=len(indices)))

    def _gather(self, indices: Int[np.ndarray, "B"], copies: Int[np.ndarray, "B"]) -> ClipBatch:
        if np.any(indices < 0) or np.any(indices >= len(self)):
            raise IndexError(f"clip {indices} is not in 0 to {len(self) - 1}")
        episodes = self._episode[indices]
        first, lengths = self.cache.starts[episodes], self.cache.lengths[episodes]
        starts = indices - first
        frames = first[:, None] + self.window.frame_indices(starts, lengths)
        steps = first[:, None] + self.window.action_indices(starts, lengths)
        codes = self._codes[copies[:, None], frames].astype(np.float32)
        return ClipBatch(
            current=codes[:, 0],
            future=np.ascontiguousarray(codes[:, 1:].swapaxes(1, 2)),
            actions=self._actions[steps],
            has_actions=self.cache.has_actions[episodes],
            instructions=[self.cache.instructions[episode] for episode in episodes],
        )

    def _normalised(self) -> Float32[np.ndarray, "steps D"]:
        cache, normalizer = self.cache, self.normalizer
        width = len(normalizer.low) if normalizer else 0
        actions = np.zeros((len(self), width), np.float32)
        if normalizer and cache.actions is not None:
            actions[np.repeat(cache.has_actions, cache.lengths)] = normalizer.apply(cache.known_actions())
        return actions


def epoch_order(n: int, seed: int, epoch: int) -> Int64[np.ndarray, "n"]:
    """The order in which an epoch visits n clips; each epoch its own, always the same for this seed."""
    return np.random.default_rng([seed, epoch]).permutation(n)
