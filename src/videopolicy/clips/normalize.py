"""Normalising actions: the model's are of unit size, the env's in its own units."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from videopolicy.configs import from_json
from videopolicy.errors import UserError

# How a dimension is brought to unit size.
Method = Literal["minmax", "quantile", "std"]
# The share of the values below the lower quantile, and above the upper one: q01 and q99, as OpenVLA (Kim et al. 2024,
# BOUNDS_Q99), openpi, GR00T and LeRobot (QUANTILES) take them.
BEYOND = 0.01
# Of half of its range: a dimension that hardly ever moves is not blown up further.
LEAST_STD = 0.02


@dataclass(frozen=True)
class Normalizer:
    """Maps each action dimension's range in the data linearly to [-1, 1], or its mean to 0 and its deviation to 1.

    A dimension that never changes maps to 0, and comes back as its constant whatever the model says.

    Attributes:
        low: the lowest value of each dimension that the model acts with, D of them.
        high: the highest.
        method: what they are of the data, and what is mapped: the smallest and largest value (minmax); quantiles,
            beyond which actions are clipped, so that a few values far outside do not shrink all others (quantile); or
            the smallest and largest value, but mean and deviation are mapped, so that small motions count as large
            ones do (std).
        mean: of the chunks in the data, if their mean and deviation are mapped; () otherwise.
        std: standard deviation, likewise.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    method: Method = "minmax"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.low or len(self.low) != len(self.high):
            raise UserError(f"{len(self.low)} numbers in low, {len(self.high)} in high; each dimension needs both")
        for dimension, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if low > high:
                raise UserError(f"low[{dimension}] is {low:g}, above high[{dimension}], which is {high:g}")
        needed = len(self.low) if self.method == "std" else 0
        if not len(self.mean) == len(self.std) == needed:
            raise UserError(
                f"{len(self.mean)} numbers in mean, {len(self.std)} in std; method {self.method} has {needed}"
            )
        if any(std < 0 for std in self.std):
            raise UserError(f"std is {self.std}; no deviation is negative")

    @classmethod
    def fit(cls, actions: Float[np.ndarray, "n D"]) -> "Normalizer":
        """The ranges of these actions.

        Raises:
            UserError: no actions, or one that is not finite.
        """
        if not len(actions):
            raise UserError(
                "there are no actions to fit a normaliser to; the data needs at least one episode with them"
            )
        _check_finite(actions)
        return cls(tuple(actions.min(0).astype(float).tolist()), tuple(actions.max(0).astype(float).tolist()))

    @classmethod
    def fit_quantiles(cls, blocks: Sequence[Float[np.ndarray, "_ D"]]) -> "Normalizer":
        """The ranges between the quantiles of all these actions, of which one dimension at a time is held in memory.

        Where both quantiles are the same, but not all values, as of a gripper that rarely closes, it is the whole
        range.

        Raises:
            UserError: an action is not finite.
        """
        for block in blocks:
            _check_finite(block)
        columns = (np.concatenate([block[:, number] for block in blocks]) for number in range(blocks[0].shape[1]))
        low, high = zip(*map(_between, columns), strict=True)
        return cls(low, high, "quantile")

    def with_moments(self, chunks: Float[np.ndarray, "n D"]) -> "Normalizer":
        """The same ranges, of which mean and deviation of these actions are mapped.

        Raises:
            UserError: an action is not finite.
        """
        _check_finite(chunks)
        mean, std = chunks.mean(0, dtype=float), chunks.std(0, dtype=float)
        least = LEAST_STD * (np.array(self.high) - np.array(self.low)) / 2
        return replace(self, method="std", mean=tuple(mean.tolist()), std=tuple(np.maximum(std, least).tolist()))

    def union(self, other: "Normalizer") -> "Normalizer":
        """The ranges of what either was fitted to."""
        self.check_width(len(other.low))
        return Normalizer(tuple(map(min, self.low, other.low)), tuple(map(max, self.high, other.high)))

    def apply(self, actions: Float[np.ndarray, "*n D"]) -> Float32[np.ndarray, "*n D"]:
        """Env units -> unit size; beyond the fitted range, linearly beyond, or clipped if it is one of quantiles.

        Raises:
            UserError: another width than fitted, or an action that is not finite.
        """
        self.check_width(actions.shape[-1])
        _check_finite(actions)
        low, half = self._affine()
        moving = half > 0
        scaled = (actions - low) / np.where(moving, half, 1) - 1
        if self.method == "quantile":
            scaled = scaled.clip(-1, 1)
        return np.where(moving, scaled, 0).astype(np.float32)

    def invert(self, normalised: Float[np.ndarray, "*n D"]) -> Float32[np.ndarray, "*n D"]:
        """Unit size -> env units; the inverse of `apply`, but for what that clips.

        Raises:
            UserError: another width than fitted, or a value that is not finite.
        """
        self.check_width(normalised.shape[-1])
        _check_finite(normalised)
        low, half = self._affine()
        return ((normalised.astype(np.float64) + 1) * half + low).astype(np.float32)

    def clip(self, normalised: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n D"]:
        """Within the range: a sample may fall outside of what was demonstrated; a robot must not."""
        return normalised.clip(self.apply(np.array(self.low)), self.apply(np.array(self.high)))

    def check_width(self, width: int) -> None:
        """Raises UserError if actions of this width are not what it was fitted to."""
        if width != len(self.low):
            raise UserError(f"actions are {width} wide, but the normaliser was fitted to {len(self.low)}")

    def to_json(self) -> str:
        """JSON text that `from_json` reads back without loss."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Normalizer":
        """The normaliser that `to_json` wrote.

        Raises:
            UserError: the text is something else, or a range of it makes no sense.
        """
        try:
            return from_json(cls, json.loads(text))
        except (ValueError, UserError) as error:
            raise UserError(
                f"not the statistics of a normaliser (JSON with lists 'low' and 'high'): {error}"
            ) from error

    def _affine(self) -> tuple[Float[np.ndarray, "D"], Float[np.ndarray, "D"]]:
        # float64: a small range far from zero would lose its digits in float32.
        if self.method == "std":
            mean, std = np.array(self.mean), np.array(self.std)
            return mean - std, std
        low, high = np.array(self.low), np.array(self.high)
        return low, (high - low) / 2


def _between(column: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """The quantiles, each a value that occurs, rounded outwards; the ends if they are the same."""
    low = float(np.quantile(column, BEYOND, method="lower"))
    high = float(np.quantile(column, 1 - BEYOND, method="higher"))
    return (low, high) if low < high else (float(column.min()), float(column.max()))


def _check_finite(actions: Float[np.ndarray, "*n D"]) -> None:
    bad = np.argwhere(~np.isfinite(actions))
    if len(bad):
        *place, dimension = bad[0].tolist()
        raise UserError(f"an action is not finite: row {place}, dimension {dimension}; every action must be a number")
