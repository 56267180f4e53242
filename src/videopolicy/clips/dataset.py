"""Clips of latent caches: every control step of every episode starts one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from videopolicy.actions.relative import Relative
from videopolicy.clips.cache import Cache
from videopolicy.clips.normalize import Method, Normalizer
from videopolicy.clips.order import Order
from videopolicy.clips.windows import Window
from videopolicy.errors import UserError

# About so many chunks of each data set tell the ranges of relative actions, read in so many blocks.
RANGED, BLOCKS = 2**14, 64


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Clips stacked along a first axis.

    Attributes:
        current: codes of the current images.
        future: codes of the next frames; t = T of them, or fewer latents if each holds several.
        actions: normalised; zeros where a clip has none.
        has_actions: whether each clip has actions.
        instructions: one a clip.
        state: the robot's at the clip's first step, normalised; zeros of a data set without actions, for which nobody
            asks. None of clips that are made without it.
    """

    current: Float32[np.ndarray, "B V K h w"]
    future: Float32[np.ndarray, "B V t K h w"]
    actions: Float32[np.ndarray, "B A D"]
    has_actions: Bool[np.ndarray, "B"]
    instructions: list[str]
    state: Float32[np.ndarray, "B S"] | None = None


@dataclass(frozen=True, eq=False)
class Episodes:
    """E episodes of several caches, those of one cache together.

    Attributes:
        source: the cache of each.
        number: its number in that cache, from 0.
        first: its first step in that cache.
        lengths: its control steps.
        instructions: its instruction.
        tasks: its task, "" where unknown.
        has_actions: whether it has actions.
    """

    source: Int64[np.ndarray, "E"]
    number: Int64[np.ndarray, "E"]
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
            np.concatenate([np.arange(len(cache.lengths)) for cache in caches]),
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
            self.number[chosen],
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

    @property
    def kinds(self) -> tuple[tuple[str, bool], ...]:
        """What each one can teach: its task, or its instruction where that is unknown; and whether it has actions."""
        named = zip(self.tasks, self.instructions, self.has_actions.tolist(), strict=True)
        return tuple((task or instruction, acts) for task, instruction, acts in named)


class Clips:
    """All clips of some caches: clip i begins with step i, counted over the episodes of all caches.

    `clips[i, copy]` is one clip; `clips.batch` reads many at once, much faster. None of them is held in memory.

    Attributes:
        window: which frames and actions a clip holds.
        normalizer: of the actions; None if no episode has any.
        state_normalizer: of the states; None of clips without them.
        episodes: where the clips come from.
        fps: control steps a second.
        caches: the codes and actions of each data set.
        relative: sees the actions of a clip from the state at its beginning; None leaves them as they are.
    """

    def __init__(
        self,
        caches: Sequence[Cache],
        window: Window,
        normalizer: Normalizer | None = None,
        weights: Sequence[float] | None = None,
        *,
        normalize: Method = "minmax",
        relative: Relative | None = None,
        episodes: Episodes | None = None,
        proprioception: bool = False,
        state_normalizer: Normalizer | None = None,
    ) -> None:
        """Clips of this window.

        Args:
            caches: the codes and actions, of the same views, sizes, widths and fps; all of frames or all of windows.
            window: which of them belong to a clip.
            normalizer: of the actions; None fits one to the caches'.
            weights: shares of the caches in the training order; None for their numbers of clips.
            normalize: how the ranges of actions and states are found if no normaliser is given.
            relative: sees the actions of a clip from the state at its beginning; None leaves them as they are.
            episodes: only these; None takes all.
            proprioception: whether each clip has the state at its first step.
            state_normalizer: of the states, if they are wanted; None fits one to those of the caches with actions.

        Raises:
            UserError: an episode is shorter than the window, a cache of other windows, actions of another width than
                the normaliser's, or relative actions or proprioception without states.
        """
        self.window, self.episodes = window, Episodes.of(caches) if episodes is None else episodes
        window.check(self.episodes.lengths.tolist())
        for cache in caches:
            cache.check_window(window)
        self.fps = caches[0].fps
        self.caches, self.relative, self._weights = tuple(caches), relative, weights
        for wanted, what in ((relative, "relative actions need"), (proprioception, "proprioception needs")):
            if wanted and any(cache.actions is not None and cache.states is None for cache in caches):
                raise UserError(f"{what} the states of every data set with actions; one has none")
        self.state_normalizer = (state_normalizer or self._fitted_states(normalize)) if proprioception else None
        self.normalizer = normalizer or self._fitted(normalize)
        for cache in caches:
            if self.normalizer and cache.actions is not None:
                self.normalizer.check_width(relative.relative.width if relative else cache.actions.shape[1])
        self._starts = self.episodes.starts
        sizes = np.bincount(self.episodes.source, self.episodes.lengths, len(caches)).astype(int)
        self._order = Order(sizes.tolist(), weights)

    def __len__(self) -> int:
        return int(self.episodes.lengths.sum())

    @property
    def instructions(self) -> tuple[str, ...]:
        """Every instruction that occurs, once, sorted."""
        return tuple(sorted(set(self.episodes.instructions)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every known task that occurs, once, sorted."""
        return tuple(sorted({task for task in self.episodes.tasks if task}))

    @property
    def with_actions(self) -> tuple[str, ...]:
        """The instructions of episodes with actions, once each, sorted."""
        pairs = zip(self.episodes.instructions, self.episodes.has_actions, strict=True)
        return tuple(sorted({instruction for instruction, acts in pairs if acts}))

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each cache in the training order; they add up to 1."""
        return tuple(self._order.shares.tolist())

    @property
    def share_with_actions(self) -> float:
        """The share of clips with actions in the training order."""
        with_actions = self.episodes.lengths * self.episodes.has_actions
        counts = np.bincount(self.episodes.source, with_actions, len(self.caches))
        return float(counts / np.maximum(self._order.sizes, 1) @ self._order.shares)

    def at(self, positions: Int64[np.ndarray, "n"], seed: int) -> Int64[np.ndarray, "n"]:
        """The clips at these positions of the endless training order of this seed (see `videopolicy.clips.order`)."""
        return self._order.at(positions, seed)

    def split(self, episodes: int) -> tuple["Clips", "Clips"]:
        """Clips to train on, and clips of so many whole episodes that are held out, spread evenly over the tasks.

        Where it can be, each task keeps an episode to train on, and one with actions if it has any.

        Raises:
            UserError: a source would be left with nothing to train on.
        """
        every = self.episodes
        # Sorted by source and task, and evenly spaced in that: each of them gives in the proportion of its size.
        ranked = sorted(range(len(every)), key=lambda n: (every.source[n], every.tasks[n], every.instructions[n], n))
        held = _spread(ranked, episodes, len(every))
        kinds = every.kinds
        if {kinds[n] for n in np.nonzero(~held)[0]} != set(kinds):
            kept = {kind: n for n, kind in reversed(list(enumerate(kinds)))}
            spare = [n for n in ranked if kept[kinds[n]] != n]
            held = _spread(spare, episodes, len(every)) if len(spare) >= episodes else held
        if set(every.source[~held]) != set(every.source):
            raise UserError(
                f"{episodes} of {len(every)} episodes held out leave a data set with none to train on; hold out fewer"
            )
        return self._only(np.nonzero(~held)[0]), self._only(np.nonzero(held)[0])

    def batch(self, indices: Int[np.ndarray, "B"], rng: np.random.Generator | None) -> ClipBatch:
        """These clips, each from a random copy; without a generator, from copy 0, as recorded.

        Raises:
            IndexError: no such clip.
        """
        none = np.zeros(len(indices), np.int64)
        copies = none if rng is None else rng.integers(len(self.caches[0].codes), size=len(indices))
        return self._gather(indices, copies)

    def _only(self, chosen: Int64[np.ndarray, "e"]) -> "Clips":
        weights = self._weights if len(set(self.episodes.source[chosen])) == len(self.caches) else None
        episodes = self.episodes.take(chosen)
        return Clips(
            self.caches,
            self.window,
            self.normalizer,
            weights,
            relative=self.relative,
            episodes=episodes,
            proprioception=self.state_normalizer is not None,
            state_normalizer=self.state_normalizer,
        )

    def _gather(self, indices: Int[np.ndarray, "B"], copies: Int[np.ndarray, "B"]) -> ClipBatch:
        if np.any(indices < 0) or np.any(indices >= len(self)):
            raise IndexError(f"clip {indices} is not in 0 to {len(self) - 1}")
        episodes = np.searchsorted(self._starts, indices, side="right") - 1
        first, lengths = self.episodes.first[episodes], self.episodes.lengths[episodes]
        starts = indices - self._starts[episodes]
        steps = first[:, None] + self.window.action_indices(starts, lengths)
        sources, numbers = self.episodes.source[episodes], self.episodes.number[episodes]
        has_actions = self.episodes.has_actions[episodes]
        codes = np.empty((len(indices), *self.caches[0].window_shape(self.window)), np.float32)
        for source in np.unique(sources):
            mine = sources == source
            codes[mine] = self.caches[source].read_windows(self.window, copies[mine], numbers[mine], starts[mine])
        return ClipBatch(
            current=codes[:, :, 0],
            future=np.ascontiguousarray(codes[:, :, 1:]),
            actions=self._actions(sources, steps, has_actions),
            has_actions=has_actions,
            instructions=[self.episodes.instructions[episode] for episode in episodes],
            state=self._states(sources, first + starts),
        )

    def _actions(
        self, sources: Int64[np.ndarray, "B"], steps: Int[np.ndarray, "B A"], has_actions: Bool[np.ndarray, "B"]
    ) -> Float32[np.ndarray, "B A D"]:
        width = len(self.normalizer.low) if self.normalizer else 0
        actions = np.zeros((*steps.shape, width), np.float32)
        for source, cache in enumerate(self.caches):
            mine = has_actions & (sources == source)
            if self.normalizer and mine.any():
                actions[mine] = self.normalizer.apply(self._chunks(cache, steps[mine]))
        return actions

    def _states(
        self, sources: Int64[np.ndarray, "B"], steps: Int[np.ndarray, "B"]
    ) -> Float32[np.ndarray, "B S"] | None:
        if self.state_normalizer is None:
            return None
        states = np.zeros((len(steps), len(self.state_normalizer.low)), np.float32)
        for source, cache in enumerate(self.caches):
            mine = sources == source
            if cache.actions is not None and cache.states is not None and mine.any():
                states[mine] = self.state_normalizer.apply(cache.states[steps[mine]])
        return states

    def _chunks(self, cache: Cache, steps: Int[np.ndarray, "b A"]) -> Float32[np.ndarray, "b A D"]:
        """The actions at these steps, in the env's units; seen from the first of them if relative."""
        assert cache.actions is not None
        actions = cache.actions[steps]
        if self.relative is None:
            return actions
        assert cache.states is not None
        return self.relative.apply(actions, cache.states[steps[:, 0]])

    def _fitted(self, method: Method) -> Normalizer | None:
        """The ranges of all known actions, read in blocks; None if there are none."""
        known = (actions for cache in self.caches for actions in cache.known_actions())
        return _fit(method, known if self.relative is None else self._evenly(), self._evenly)

    def _fitted_states(self, method: Method) -> Normalizer | None:
        """The ranges of the states beside known actions; None if there are none."""
        steps = sum(int(cache.lengths @ cache.has_actions) for cache in self.caches)

        def spread() -> Iterator[Float32[np.ndarray, "n S"]]:
            return (states[:: max(1, steps // RANGED)] for cache in self.caches for states in cache.known_states())

        return _fit(method, (states for cache in self.caches for states in cache.known_states()), spread)

    def _evenly(self) -> Iterator[Float32[np.ndarray, "b*A D"]]:
        """Actions of chunks all over the episodes that have some; a chunk for every step would take too long."""
        for cache in self.caches:
            known = np.nonzero(cache.has_actions)[0]
            first, lengths = cache.starts[known], cache.lengths[known]
            ends = np.cumsum(lengths)
            count = int(ends[-1]) if len(ends) else 0
            for places in np.array_split(np.arange(0, count, max(1, count // RANGED)), BLOCKS):
                episodes = np.searchsorted(ends, places, side="right")
                starts = places - (ends - lengths)[episodes]
                steps = first[episodes, None] + self.window.action_indices(starts, lengths[episodes])
                if len(steps):
                    chunks = self._chunks(cache, steps)
                    yield chunks.reshape(-1, chunks.shape[-1])


def _fit(
    method: Method,
    blocks: Iterator[Float32[np.ndarray, "_ D"]],
    evenly: Callable[[], Iterator[Float32[np.ndarray, "_ D"]]],
) -> Normalizer | None:
    """The ranges of all blocks; None if there are none.

    Args:
        method: how they are found.
        blocks: mapped from disk, or few enough to hold.
        evenly: as many of the values as tell mean and deviation.
    """
    if method == "quantile":
        held = list(blocks)
        return Normalizer.fit_quantiles(held) if held else None
    ranges = [Normalizer.fit(values) for values in blocks]
    if not ranges:
        return None
    whole = reduce(Normalizer.union, ranges)
    return whole.with_moments(np.concatenate(list(evenly()))) if method == "std" else whole


def _spread(ranked: Sequence[int], count: int, total: int) -> Bool[np.ndarray, "E"]:
    """Which of the episodes are chosen: so many of the ranked ones, evenly spaced among them."""
    chosen = [ranked[(2 * k + 1) * len(ranked) // (2 * count)] for k in range(min(count, len(ranked)))]
    return np.isin(np.arange(total), chosen)
