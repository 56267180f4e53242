"""A data set at another rate."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float32

from videopolicy.actions.layout import ROTATIONS, Layout, Part
from videopolicy.actions.rotations import matrices, written
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.transforms.base import Derived
from videopolicy.errors import UserError
from videopolicy.types import Episode

# The rates of video files are fractions with such denominators: 30000 / 1001.
_LARGEST_DENOMINATOR = 1001
# Of the source's frames, few are kept: so many are in memory at once.
_PART = 20


class Resampled(Derived):
    """A `videopolicy.datasets.base.Dataset` that shows another one at another rate.

    A frame and a state are those that were current at their time: the nearest earlier ones. An action stands for all
    that happens until the next frame, so actions can only be had at a rate that is lower by a whole factor k: what is
    absolute is the last of its k steps, what is a change from step to step is the sum of the k, or their product in
    time's order if it is a quaternion or a 6-D rotation.

    Args:
        dataset: what is shown.
        fps: steps a second.

    Raises:
        UserError: there are actions, and another factor, or what they mean is unspecified.
    """

    def __init__(self, dataset: Dataset, fps: float) -> None:
        super().__init__(dataset, fps)
        self.fps = fps
        self._ratios: dict[int, Fraction] = {}
        self._layout = self._check(dataset) if dataset.action_width is not None and fps != dataset.fps else None

    def length(self, index: int) -> int:
        """The steps of one episode, without decoding it."""
        return math.ceil(self.inner.length(index) / self._ratio(index))

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its steps start to stop - 1; see `Dataset.episode`."""
        last, ratio = self.length(index) if stop is None else min(stop, self.length(index)), self._ratio(index)
        chosen = np.array([math.floor(step * ratio) for step in range(start, last)], int)
        first = math.floor(start * ratio)
        # All that the last action stands for, and at least the last frame.
        end = min(max(math.floor(last * ratio), chosen.max(initial=first - 1) + 1), self.inner.length(index))
        parts, shown = [], []
        for begin in range(first, max(end, first + 1), _PART):
            part = self.inner.episode(index, views, begin, min(begin + _PART, end))
            here = chosen[(begin <= chosen) & (chosen < begin + _PART)] - begin
            shown.append({view: frames[here] for view, frames in part.views.items()})
            parts.append(replace(part, views={}))
        actions, states = _joined([part.actions for part in parts]), _joined([part.states for part in parts])
        return replace(
            parts[0],
            fps=self.fps,
            views={view: np.concatenate([part[view] for part in shown]) for view in shown[0]},
            actions=None if actions is None else self._merged(actions, chosen - first),
            states=None if states is None else states[chosen - first],
        )

    def _ratio(self, index: int) -> Fraction:
        """Own steps that one step stands for. Episodes of video without actions may each have a rate of its own."""
        if self.inner.action_width is not None:
            return _rate(self.inner.fps) / _rate(self.fps)
        if index not in self._ratios:
            self._ratios[index] = _rate(self.inner.episode(index, (), 0, 1).fps) / _rate(self.fps)
        return self._ratios[index]

    def _merged(self, actions: Float32[np.ndarray, "n D"], starts: np.ndarray) -> Float32[np.ndarray, "m D"]:
        """One action for the steps from each start to the next."""
        if self._layout is None:
            return actions[starts]
        ends = [*starts[1:], len(actions)]
        runs = [actions[start:end] for start, end in zip(starts, ends, strict=True)]
        merged = [np.concatenate([_of_run(run[:, part.slice], part) for part in self._layout.parts]) for run in runs]
        return np.array(merged, np.float32).reshape(len(runs), actions.shape[1])

    def _check(self, dataset: Dataset) -> Layout:
        where = f"{dataset.path}: {dataset.fps:g} steps a second cannot become {self.fps:g}"
        ratio = _rate(dataset.fps) / _rate(self.fps)
        if ratio < 1 or ratio.denominator != 1:
            rates = ", ".join(f"{dataset.fps / factor:g}" for factor in (2, 3, 4, 5))
            raise UserError(f"{where}, as the actions are of that rate; lower by a whole factor is possible: {rates}")
        if not dataset.action_layout:
            raise UserError(f"{where}: whether actions are changes, which add up, is unspecified; give --action-layout")
        layout = Layout.parse(dataset.action_layout)
        for part in layout.parts:
            if part.kind == "other" or part.reference == "relative":
                raise UserError(f"{where}: it is not known what several steps of {part} amount to")
        return layout


def _of_run(values: Float32[np.ndarray, "n d"], part: Part) -> np.ndarray:
    """What consecutive steps amount to."""
    if part.reference != "delta":
        return values[-1]
    if part.kind in ROTATIONS and part.kind != "axis_angle":
        turns = matrices(values, part.kind)
        total = turns[0]
        for turn in turns[1:]:
            total = turn @ total
        return written(total, part.kind)
    # Small rotations add up as vectors do, whatever unit their controller counts in.
    return values.astype(np.float64).sum(0)


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
