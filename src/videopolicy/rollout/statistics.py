"""How sure a success rate is."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import betaincinv

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
