"""Whether a measure goes with success, over episodes, and within tasks: a hard task must not fake it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import comb, prod

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

# Up to so many ways to deal out the successes, all are tried; beyond, as many are drawn.
ARRANGEMENTS = 20_000


@dataclass(frozen=True)
class Group:
    """Episodes of one task: a value of each and whether it succeeded."""

    values: Float[np.ndarray, "n"]
    success: Bool[np.ndarray, "n"]


@dataclass(frozen=True)
class Association:
    """How a measure goes with success.

    Attributes:
        n: episodes.
        successes: how many of them succeeded.
        auc: how often, of a success and a failure of the same task, the success has the larger value; 0.5: no relation.
        r: correlation of the value and success (point-biserial), both centred within each task.
        p: how likely an AUC as far from 0.5 is, had luck dealt out the successes within each task.
    """

    n: int
    successes: int
    auc: float
    r: float
    p: float


def associate(groups: Sequence[Group], generator: np.random.Generator) -> Association | None:
    """The association within these tasks; None where no task has a success and a failure.

    Args:
        groups: one a task.
        generator: draws arrangements where they are too many to try them all.
    """
    mixed = [group for group in groups if 0 < group.success.sum() < len(group.success)]
    if not mixed:
        return None
    values = np.concatenate([group.values - group.values.mean() for group in mixed])
    success = np.concatenate([group.success - group.success.mean() for group in mixed])
    scale = float(np.sqrt((values**2).sum() * (success**2).sum()))
    # The sum of the successes' ranks is, but for a constant, the number of pairs they win (Mann and Whitney 1947).
    ranked = [(rankdata(group.values), int(group.success.sum())) for group in mixed]
    pairs = sum(k * (len(ranks) - k) for ranks, k in ranked)
    least = sum(k * (k + 1) / 2 for _, k in ranked)
    wins = sum(float(ranks[group.success].sum()) for (ranks, _), group in zip(ranked, mixed, strict=True)) - least
    return Association(
        n=len(values),
        successes=sum(k for _, k in ranked),
        auc=wins / pairs,
        r=float((values * success).sum() / scale) if scale > 0 else 0.0,
        p=_chance(ranked, abs(wins - pairs / 2), least + pairs / 2, generator),
    )


def _chance(
    ranked: Sequence[tuple[Float[np.ndarray, "n"], int]], apart: float, middle: float, generator: np.random.Generator
) -> float:
    """How likely the sum of ranks is as far from its middle, had luck dealt out the successes within each task."""
    if prod(comb(len(ranks), k) for ranks, k in ranked) <= ARRANGEMENTS:
        each = [[ranks[list(chosen)].sum() for chosen in combinations(range(len(ranks)), k)] for ranks, k in ranked]
        sums = np.array([sum(one) for one in product(*each)])
        return float((np.abs(sums - middle) >= apart - 1e-9).mean())
    sums = np.zeros(ARRANGEMENTS)
    for ranks, k in ranked:
        sums += generator.permuted(np.tile(ranks, (ARRANGEMENTS, 1)), axis=1)[:, :k].sum(1)
    # What was found is among what can be found.
    return float(((np.abs(sums - middle) >= apart - 1e-9).sum() + 1) / (ARRANGEMENTS + 1))
