"""How sure a success rate is."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import betaincinv
from scipy.stats import norm

from videopolicy.rollout.results import Result


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a success rate; both ends in [0, 1]."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low * 100:.0f}-{self.high * 100:.0f} %"


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a binomial rate (Clopper and Pearson 1934): never covers less than it says.

    Args:
        successes: how many of the n episodes succeeded.
        n: how many episodes ran; with 0, nothing is known and the interval is [0, 1].
        confidence: how often such an interval holds the true rate.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} episodes")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(low, high)


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a binomial rate (Wilson 1927), as other methods build on it; n is at least 1."""
    z, rate = float(norm.ppf((1 + confidence) / 2)), successes / n
    middle, reach = rate + z * z / (2 * n), z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Beyond the ends only by rounding.
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def mean_over_tasks(
    counts: Sequence[tuple[int, int]], rng: np.random.Generator, confidence: float = 0.95, draws: int = 20_000
) -> tuple[float, Interval]:
    """The mean of the tasks' success rates, each task weighing the same, and its interval.

    The interval is a bootstrap stratified by task: episodes are drawn again within each task. Where every task solved
    all or nothing there is nothing to draw, and the exact interval of all episodes together stands in.

    Args:
        counts: successes and episodes of each task.
        rng: draws the samples.
        confidence: how often such an interval is meant to hold the true mean.
        draws: samples.
    """
    won, n = (np.array(column) for column in zip(*counts, strict=True))
    mean = float((won / n).mean())
    if np.all((won == 0) | (won == n)):
        return mean, clopper_pearson(int(won.sum()), int(n.sum()), confidence)
    # Drawing n outcomes of which a share is 1, again with replacement, is drawing a binomial number.
    means = (rng.binomial(n, won / n, size=(draws, len(n))) / n).mean(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return mean, Interval(float(low), float(high))


def episodes_needed(rate: float, reach: float, confidence: float = 0.95) -> int:
    """The fewest episodes whose exact interval reaches no further than this to either side of the rate.

    Args:
        rate: the success rate that is expected.
        reach: half the width that the interval may have, above 0.
        confidence: of the interval.
    """
    if not (0 <= rate <= 1 and 0 < reach < 1):
        raise ValueError(f"a rate of {rate} known to {reach}")

    def enough(n: int) -> bool:
        interval = clopper_pearson(round(rate * n), n, confidence)
        return interval.high - interval.low <= 2 * reach

    most = 1
    while not enough(most):
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most


def summary_line(successes: int, n: int) -> str:
    """One line for a log: `success 18/20 (68-99 %)`, the interval at 95 % confidence."""
    return f"success {successes}/{n} ({clopper_pearson(successes, n)})"


def table(results: Sequence[Result]) -> str:
    """A row per task: successes, their 95 % interval, mean control steps and plans of an episode."""
    tasks = list(dict.fromkeys(result.task for result in results))
    width = max([4, *map(len, tasks)])
    lines = [f"{'task':{width}}  success  95 % interval  steps  plans"]
    for task in tasks:
        rows = [result for result in results if result.task == task]
        won, n = sum(row.success for row in rows), len(rows)
        steps, plans = (sum(values) / n for values in zip(*((row.steps, row.plans) for row in rows), strict=True))
        score = f"{won}/{n}"
        lines.append(f"{task:{width}}  {score:>7}  {clopper_pearson(won, n)!s:>13}  {steps:5.1f}  {plans:5.1f}")
    return "\n".join(lines)
