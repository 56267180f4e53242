"""Values far outside of what is usual in their dimension: slips of a sensor, a bit that flipped, a wrong unit.

One such value of many thousand decides the range by which a dimension is scaled, and shrinks all others to nothing.

The usual range is found by growing: from the median outwards, always to the nearer neighbour, until that is several
widths of what has been reached away. So a tail may be as heavy as it likes, as long as it is one piece.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, pi

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

# Outliers are at most so large a share of all values of their dimension.
FEW = 0.1
# They are so many widths of the usual range away from it; more where its own tails are heavy, which is where it is
# more than TAIL times as wide as the innermost INNER of it.
GAP, INNER, TAIL = 3.0, 0.98, 3.0
# A dimension must take so many values beside its commonest one: a switch, or a joint that hardly moves, has no usual
# range.
MOVES = 10
# An excursion of more steps on average is a movement, or a gripper that switches, but for values beyond the degrees
# of a full turn.
BRIEF, TURN = 3.0, 360.0
# Whether excursions are brief is seen from so many episodes.
LOOKED_AT = 64
# Rows that are sorted at once, and bins of a factor of two in the distance from the median, as a power of two.
ROWS, BITS = 2**14, 5
# Angles jump by a period where their range ends: (smallest angle, period).
CUTS = ((-pi, 2 * pi), (0.0, 2 * pi), (-180.0, 360.0), (0.0, 360.0))
# Share of a period by which an angle may lie beyond its end.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Outliers:
    """The values of one dimension that are far outside its usual range.

    Attributes:
        dimension: its number, from 0.
        count: how many they are.
        worst: the one that is farthest away.
        low: smallest of all other values.
        high: largest of all other values.
        episodes: those in which they are, as `Watch.add` was told of them.
    """

    dimension: int
    count: int
    worst: float
    low: float
    high: float
    episodes: tuple[int, ...]

    def __str__(self) -> str:
        usual = f"far outside the usual range, {self.low:.4g} to {self.high:.4g}"
        if self.count == 1:
            return f"1 value is {usual}: {self.worst:.5g}"
        return f"{self.count} values are {usual}, as far as {self.worst:.5g}"


class Watch:
    """Looks at one vector over all episodes, in memory that grows with the episodes, not with their steps.

    It keeps a histogram of each dimension and each episode's ends: 10 MB for 100,000 episodes of 12 dimensions.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        self._bins = [_Bins() for _ in range(width)]
        self._episodes: list[int] = []
        self._ends: list[Float32[np.ndarray, "2 D"]] = []
        self._waiting: list[Float32[np.ndarray, "n D"]] = []

    def add(self, episode: int, values: Float32[np.ndarray, "N D"]) -> None:
        """All steps of one more episode, at least one, all of them finite."""
        self._episodes.append(episode)
        self._ends.append(np.stack((values.min(0), values.max(0))))
        self._waiting.append(values)
        if sum(map(len, self._waiting)) >= ROWS:
            self._sort()

    def outliers(self, again: Callable[[int], Float32[np.ndarray, "N D"]]) -> list[Outliers]:
        """What is far outside, dimension by dimension.

        Args:
            again: the steps of an episode once more; asked for a few alone that have something outside.
        """
        self._sort()
        usual = {number: found for number, bins in enumerate(self._bins) if (found := _usual(bins))}
        ends = np.stack(self._ends) if usual else np.zeros((0, 2, 0), np.float32)
        places = {number: np.nonzero(one.outside(ends[:, :, number]).any(1))[0] for number, one in usual.items()}
        looked = {number: set(where[:LOOKED_AT].tolist()) for number, where in places.items()}
        slips: dict[int, list[tuple[int, int]]] = {number: [] for number in usual}
        for place in sorted(set().union(*looked.values())):
            values = again(self._episodes[place])
            for number, one in usual.items():
                if place in looked[number]:
                    slips[number].append(_excursions(one.outside(values[:, number])))
        return [
            self._told(number, one, places[number])
            for number, one in usual.items()
            if _are_slips(slips[number], self._bins[number].outside(one))
        ]

    def _told(self, number: int, usual: "_Usual", places: Int64[np.ndarray, "n"]) -> Outliers:
        bins = self._bins[number]
        values = bins.outside(usual)
        worst = values[np.maximum(usual.low - values, values - usual.high).argmax()]
        count = int(bins.counts[usual.outside(bins.low)].sum())
        return Outliers(
            number, count, float(worst), usual.low, usual.high, tuple(self._episodes[place] for place in places)
        )

    def _sort(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting)
            self._waiting.clear()
            for bins, column in zip(self._bins, rows.T, strict=True):
                bins.add(column)


@dataclass(frozen=True)
class _Usual:
    """The usual range of a dimension."""

    low: float
    high: float

    def outside(self, values: Float32[np.ndarray, "*n"]) -> Bool[np.ndarray, "*n"]:
        """Which values are none of the range's, nor the same angle or rotation written in another way."""
        exact, width = values.astype(np.float64), self.high - self.low
        found = self._away(exact) > 0
        for least, period in CUTS:
            slack = ROUNDING * period
            first, last = least - slack, least + period + slack
            if first <= self.low and self.high <= last:
                turned = np.minimum(self._away(exact - period), self._away(exact + period)) <= width
                found &= ~(turned & (first <= exact) & (exact <= last))
        # A quaternion q is the rotation -q, and half a turn about an axis one about the opposite axis.
        if max(abs(self.low), abs(self.high)) <= pi * (1 + ROUNDING):
            found &= self._away(-exact) > width
        return found

    def _away(self, values: np.ndarray) -> np.ndarray:
        return np.maximum(np.maximum(self.low - values, values - self.high), 0)


class _Bins:
    """How often one dimension takes which values, in bins that are the finer the nearer they are to the first median.

    Attributes:
        low: smallest value of each bin, rising.
        high: largest value of each bin.
        counts: how many are in each.
    """

    def __init__(self) -> None:
        self._center: np.floating | None = None
        self._places = np.zeros(0, np.int32)
        self.low, self.high = np.zeros((2, 0), np.float32)
        self.counts = np.zeros(0, np.int64)

    def add(self, column: Float32[np.ndarray, "n"]) -> None:
        """More values."""
        column = np.sort(column)
        if self._center is None:
            self._center = column[len(column) // 2]
        places = _places(column, self._center)
        first = np.flatnonzero(np.diff(places, prepend=places[0] - 1))
        last = np.append(first[1:], len(column)) - 1
        every = np.concatenate((self._places, places[first]))
        order = np.argsort(every, kind="stable")
        every = every[order]
        starts = np.flatnonzero(np.diff(every, prepend=every[0] - 1))
        self._places = every[starts]
        self.low = np.minimum.reduceat(np.concatenate((self.low, column[first]))[order], starts)
        self.high = np.maximum.reduceat(np.concatenate((self.high, column[last]))[order], starts)
        self.counts = np.add.reduceat(np.concatenate((self.counts, last - first + 1))[order], starts)

    def outside(self, usual: _Usual) -> Float32[np.ndarray, "n"]:
        """The ends of the bins that are outside."""
        where = usual.outside(self.low)
        return np.concatenate((self.low[where], self.high[where]))


def _places(values: Float32[np.ndarray, "n"], center: np.floating) -> Int32[np.ndarray, "n"]:
    """Numbers of bins, which rise with the values: the exponent and the first bits of the distance to the center."""
    with np.errstate(over="ignore"):
        distance = (values.astype(np.float64) - float(center)).astype(np.float32)
    place = np.abs(distance).view(np.int32) >> (23 - BITS)
    return np.where(distance < 0, -place, place)


def _usual(bins: _Bins) -> _Usual | None:
    """The range within which all usual values are; None if nothing is far outside, or nothing is usual."""
    if not len(bins.counts):
        return None
    total, single = int(bins.counts.sum()), bins.low == bins.high
    moving = bins.counts.copy()
    if single.any():
        moving[np.where(single, bins.counts, 0).argmax()] = 0
    inside, moved = 0, 0
    numbers, widths = list[int](), list[float]()
    for count, others, low, high, gap in _grown(bins, moving):
        width = high - low
        inside, moved = inside + count, moved + others
        numbers.append(moved)
        widths.append(width)
        inner = widths[bisect_left(numbers, INNER * moved)]
        if moved >= MOVES and inside >= (1 - FEW) * total and inner and gap < inf:
            if gap > GAP * width * max(1.0, width / (TAIL * inner)):
                found = _Usual(low, high)
                return found if found.outside(bins.low).any() else None
    return None


def _grown(bins: _Bins, moving: Int64[np.ndarray, "n"]) -> Iterator[tuple[int, int, float, float, float]]:
    """From the median outwards: a bin's counts, the range so far, and how far away the next one is."""
    low, high = bins.low.astype(np.float64), bins.high.astype(np.float64)
    first = last = new = int(np.searchsorted(np.cumsum(bins.counts), bins.counts.sum() / 2))
    while True:
        below = low[first] - high[first - 1] if first else inf
        above = low[last + 1] - high[last] if last + 1 < len(low) else inf
        yield int(bins.counts[new]), int(moving[new]), float(low[first]), float(high[last]), float(min(below, above))
        if below == above == inf:
            return
        if below < above:
            first = new = first - 1
        else:
            last = new = last + 1


def _excursions(outside: Bool[np.ndarray, "N"]) -> tuple[int, int]:
    """Steps that are outside, and how many stretches they make."""
    return int(outside.sum()), int(outside[0]) + int((outside[1:] & ~outside[:-1]).sum())


def _are_slips(excursions: Sequence[tuple[int, int]], values: Float32[np.ndarray, "n"]) -> bool:
    """Whether what is outside is no movement."""
    steps, stretches = np.sum(excursions, 0)
    return steps <= BRIEF * stretches or bool((np.abs(values) > TURN).all())
