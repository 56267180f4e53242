"""What can be seen to be wrong in the actions and states of a data set, episode by episode."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float32

from videopolicy.actions.layout import Layout
from videopolicy.datasets.checking import problems as kinds
from videopolicy.datasets.checking.problems import Problem

# Share of a dimension's range that a value may lie beyond its declared end: rounding, and a motor's own noise.
BEYOND = 0.01
# Share of a dimension's range in the data that counts as a movement.
MOVES = 0.1
# A time step that differs from 1 / fps by more than this share of it.
JUMPS = 0.5


class Ranges:
    """The range of every dimension over all episodes.

    Attributes:
        low: smallest value of each dimension so far.
        high: largest value.
    """

    def __init__(self, width: int) -> None:
        self.low = np.full(width, np.inf)
        self.high = np.full(width, -np.inf)
        self._values: list[set[float]] = [set() for _ in range(width)]

    def add(self, actions: Float32[np.ndarray, "N D"]) -> None:
        """More steps, all of them finite."""
        self.low, self.high = np.minimum(self.low, actions.min(0)), np.maximum(self.high, actions.max(0))
        for seen, column in zip(self._values, actions.T, strict=True):
            if len(seen) <= 2:
                seen.update(np.unique(column)[:3].tolist())

    @property
    def constant(self) -> tuple[int, ...]:
        """The dimensions that never change."""
        return tuple(np.nonzero(self.low == self.high)[0].tolist())

    @property
    def switches(self) -> Bool[np.ndarray, "D"]:
        """The dimensions that take only one or two values."""
        return np.array([len(seen) <= 2 for seen in self._values], bool)


class ActionChecks:
    """What the data set says of its actions, held against what they are.

    Args:
        layout: the action layout; None if unspecified.
        declared: the smallest and the largest value of each dimension, (2, D); None if unspecified.
    """

    def __init__(self, layout: Layout | None, declared: Float[np.ndarray, "2 D"] | None = None) -> None:
        self.grippers = [part for part in layout.parts if part.kind == "gripper"] if layout else []
        self._declared = declared
        self._moved = self._closed_first = 0

    def problems(self, episode: int, actions: Float32[np.ndarray, "N D"]) -> Iterator[Problem]:
        """What is wrong in one episode; and remembers how its gripper moved."""
        if len(actions) > 1 and (actions == actions[0]).all():
            yield Problem(kinds.STILL, "all dimensions keep their value", (episode,))
        for dimension, low, high, what in self._bounds():
            column = actions[:, dimension]
            slack = BEYOND * (high - low) + 1e-6 * max(abs(low), abs(high))
            outside = np.nonzero((column < low - slack) | (column > high + slack))[0]
            if len(outside):
                worst = column[outside[np.abs(column[outside] - (low + high) / 2).argmax()]]
                detail = f"dimension {dimension} reaches {worst:.4g}, but {what} is from {low:.4g} to {high:.4g}"
                yield Problem(kinds.RANGE, f"{detail} (from step {outside[0]})", (episode,))
        self._watch_grippers(actions)

    def polarity(self) -> Iterator[Problem]:
        """Says so if the gripper begins closed and opens later in most of the episodes in which it moves."""
        if 2 * self._closed_first > self._moved:
            share = f"{self._closed_first} of the {self._moved} episodes in which it moves"
            yield Problem(kinds.GRIPPER, f"by the action layout, the gripper starts closed and opens later in {share}")

    def moving(
        self, actions: Float32[np.ndarray, "n D"], usual: Float[np.ndarray, "D"], switches: Bool[np.ndarray, "D"]
    ) -> bool:
        """Whether the actions change much for the widths of their usual ranges, apart from what only switches."""
        span = actions.max(0) - actions.min(0)
        counts = ~switches
        for part in self.grippers:
            counts[part.slice] = False
        return bool((span > MOVES * usual)[counts].any())

    def _bounds(self) -> Iterator[tuple[int, float, float, str]]:
        for part in self.grippers:
            if part.ends:
                yield part.start, min(part.ends), max(part.ends), "the gripper"
        if self._declared is not None:
            for dimension, (low, high) in enumerate(self._declared.T.tolist()):
                yield dimension, low, high, "its declared range"

    def _watch_grippers(self, actions: Float32[np.ndarray, "N D"]) -> None:
        for part in self.grippers:
            if part.ends:
                middle, side = sum(part.ends) / 2, np.sign(part.ends[1] - part.ends[0])
                closed = side * (actions[:, part.start] - middle) > 0
                self._moved += int(closed.any() and not closed.all())
                self._closed_first += int(closed[0] and not closed.all())


def not_finite(name: str, values: Float32[np.ndarray, "N D"]) -> str:
    """Where the first NaN or infinite value stands; "" if there is none."""
    bad = np.argwhere(~np.isfinite(values))
    return f"{len(bad)} values of {name}, the first at step {bad[0][0]}, dimension {bad[0][1]}" if len(bad) else ""


def jump(stamps: Float[np.ndarray, "N"], fps: float) -> str:
    """Where the first time step that is none stands, in words; "" if there is none."""
    if not np.isfinite(stamps).all():
        return f"the time stamp of step {int(np.nonzero(~np.isfinite(stamps))[0][0])} is not a number"
    steps = np.diff(stamps.astype(np.float64))
    wrong = np.nonzero(np.abs(steps - 1 / fps) > JUMPS / fps)[0]
    if not len(wrong):
        return ""
    first = int(wrong[0])
    return f"from step {first} to {first + 1}, {steps[first]:.3g} s pass instead of {1 / fps:.3g} s ({len(wrong)} such)"
