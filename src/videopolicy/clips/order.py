"""The endless order in which training visits the clips of its sources."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int64

# Shares are multiples of one part in so many, in integers: exact up to position 2^39.
_BITS = 24


class Order:
    """Which clip is at a position: a function of the position and the seed alone.

    Clips are numbered over the sources, one after the other. Without weights, or with weights in the proportion of the
    sizes, an epoch is one permutation of all clips. Otherwise each source goes through epochs of its own, and they are
    interleaved: up to any position, a source has had its share of the clips to about one.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None = None) -> None:
        """An order.

        Args:
            sizes: clips of each source; one without any has no share, whatever its weight.
            weights: shares of the sources, above 0, in any unit; None for their sizes.
        """
        self.sizes = np.array(sizes, np.int64)
        natural = self.sizes / max(self.sizes.sum(), 1)
        self.shares = natural if weights is None else _normed(np.array(weights, float) * (self.sizes > 0))
        self._one = np.allclose(self.shares, natural, rtol=1e-9, atol=0)
        self._first = np.cumsum(self.sizes) - self.sizes
        # The epoch of the moment and the one after it, of each source.
        self._permutation = lru_cache(maxsize=2 * len(sizes))(epoch_order)

    def at(self, positions: Int64[np.ndarray, "n"], seed: int) -> Int64[np.ndarray, "n"]:
        """The clips at these positions, 0 being the first."""
        if self._one:
            return self._visited(positions, int(self.sizes.sum()), seed, None)
        clips = np.empty_like(positions)
        used = np.nonzero(self.sizes)[0].tolist()
        for source, (mine, turns) in zip(used, _dealt(positions, self.shares[used]), strict=True):
            clips[mine] = self._first[source] + self._visited(turns, int(self.sizes[source]), seed, source)
        return clips

    def _visited(
        self, turns: Int64[np.ndarray, "n"], size: int, seed: int, source: int | None
    ) -> Int64[np.ndarray, "n"]:
        clips, epochs = np.empty_like(turns), turns // size
        for epoch in np.unique(epochs):
            now = epochs == epoch
            clips[now] = self._permutation(size, seed, int(epoch), source)[turns[now] % size]
        return clips


def _normed(shares: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    return shares / shares.sum()


def epoch_order(n: int, seed: int, epoch: int, source: int | None = None) -> Int64[np.ndarray, "n"]:
    """The order in which an epoch visits n clips; each epoch its own, always the same for this seed.

    Args:
        n: clips.
        seed: of the run.
        epoch: 0 for the first.
        source: which of several sources that have epochs of their own; None for all together.
    """
    own = [] if source is None else [source + 1]
    return np.random.default_rng([seed, epoch, *own]).permutation(n)


def _dealt(
    positions: Int64[np.ndarray, "n"], shares: np.ndarray
) -> list[tuple[Bool[np.ndarray, "n"], Int64[np.ndarray, "m"]]]:
    """For each source, which positions are its own, and how many it had before each of these.

    Sources are halved again and again: of two halves, the first has had its share of any first positions, rounded.
    An error of half a clip at most is divided among the sources below, so that it hardly adds up.
    """
    if len(shares) == 1:
        return [(np.ones(len(positions), bool), positions)]
    middle = len(shares) // 2
    share = min(max(round(shares[:middle].sum() / shares.sum() * 2**_BITS), 1), 2**_BITS - 1)

    def had(position: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        return (position * share + 2 ** (_BITS - 1)) >> _BITS

    before = had(positions)
    left = had(positions + 1) > before
    dealt = []
    for mine, turns, half in ((left, before, shares[:middle]), (~left, positions - before, shares[middle:])):
        for inner, own in _dealt(turns[mine], half):
            whole = np.zeros(len(positions), bool)
            whole[np.nonzero(mine)[0][inner]] = True
            dealt.append((whole, own))
    return dealt
