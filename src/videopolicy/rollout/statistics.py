"""How sure a success rate is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from videopolicy.rollout.results import DEATHS, HORIZON, SUCCESS, Result


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a success rate; both ends in [0, 1]."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low * 100:.0f}-{self.high * 100:.0f} %"


def binomial_test(successes: int, n: int) -> Any:
    """The exact test of a rate of one half, by scipy, which knows the intervals of the rate, too."""
    # It takes half a second to import, which only those who count episodes wait for.
    from scipy.stats import binomtest

    return binomtest(successes, n)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a binomial rate (Clopper and Pearson 1934): never covers less than it says.

    Args:
        successes: how many of the n episodes succeeded.
        n: how many episodes ran; with 0, nothing is known and the interval is [0, 1].
        confidence: how often such an interval holds the true rate.
    """
    if not n:
        return Interval(0.0, 1.0)
    found = binomial_test(successes, n).proportion_ci(confidence, method="exact")
    return Interval(float(found.low), float(found.high))


@dataclass(frozen=True)
class Tally:
    """How the episodes of one task went.

    Attributes:
        task: the env's name of the task.
        successes: how many of them succeeded.
        n: how many there are.
        steps: control steps of an episode in the mean; None if the process of each died, as then nobody knows.
        plans: the same of the plans.
    """

    task: str
    successes: int
    n: int
    steps: float | None
    plans: float | None

    @property
    def rate(self) -> float:
        """The share that succeeded."""
        return self.successes / self.n

    @property
    def interval(self) -> Interval:
        """Of the rate, exact, at 95 % confidence."""
        return clopper_pearson(self.successes, self.n)


def tallies(results: Sequence[Result]) -> list[Tally]:
    """One a task, in the order of the results."""
    groups: dict[str, list[Result]] = {}
    for row in results:
        groups.setdefault(row.task, []).append(row)
    return [_tally(task, rows) for task, rows in groups.items()]


def _tally(task: str, rows: Sequence[Result]) -> Tally:
    lived = [row for row in rows if row.ended not in DEATHS]
    means = [sum(values) / len(lived) for values in zip(*((row.steps, row.plans) for row in lived), strict=True)]
    return Tally(task, sum(row.success for row in rows), len(rows), *(means or (None, None)))


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


def table(results: Sequence[Result], references: Mapping[str, float] | None = None) -> str:
    """A row per task, in the order of the results: successes, their 95 % interval, mean steps and plans of an episode.

    Args:
        results: at least one.
        references: success rates that others report, by task; without any there is no column for them.
    """
    tasks = tallies(results)
    width = max([4, *(len(one.task) for one in tasks)])
    lines = [f"{'task':{width}}  success  95 % interval  steps  plans" + "  reference" * bool(references)]
    for one in tasks:
        score = f"{one.successes}/{one.n}"
        means = "  ".join(f"{'-' if mean is None else f'{mean:.1f}':>5}" for mean in (one.steps, one.plans))
        line = f"{one.task:{width}}  {score:>7}  {one.interval!s:>13}  {means}"
        if references:
            line += f"  {percent(references[one.task]):>9}" if one.task in references else f"  {'-':>9}"
        lines.append(line)
    return "\n".join(lines)


def mean_lines(results: Sequence[Result], reference: float | None = None) -> list[str]:
    """The mean over the tasks with its 95 % interval, and how many episodes would tell a task's rate to 5 points.

    The interval's samples are always drawn with the same seed, so that the same results give the same line.
    """
    counts = [(one.successes, one.n) for one in tallies(results)]
    mean, interval = mean_over_tasks(counts, np.random.default_rng(0))
    beside = "" if reference is None else f", reference {percent(reference)}"
    return [
        f"for 5 points to either side, a task at this mean needs {episodes_needed(mean, 0.05)} episodes",
        f"mean over {len(counts)} tasks {percent(mean)} ({interval}){beside}",
    ]


def odd_endings(results: Sequence[Result]) -> str:
    """One line on the episodes that a process or a number that is not finite ended, "" if there are none."""
    counts = Counter(row.ended for row in results if row.ended not in ("", SUCCESS, HORIZON))
    if not counts:
        return ""
    kinds = ", ".join(f"{count} {ended}" for ended, count in sorted(counts.items()))
    return f"{counts.total()} of {len(results)} episodes count as failures without having come to their end: {kinds}"


def percent(rate: float) -> str:
    """`0.63` as `63 %`."""
    return f"{rate * 100:.0f} %"
