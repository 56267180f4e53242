"""Whether two policies differ, judged on the same episodes: what only one of them solves decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from scipy.special import ndtri

from videopolicy.errors import UserError
from videopolicy.rollout.results import Result
from videopolicy.rollout.statistics import binomial_test

# A difference is called real below this probability of so lopsided a split by chance alone.
LEVEL = 0.05
# How often a study of the size that `pairs_needed` names finds the difference.
POWER = 0.8


@dataclass(frozen=True)
class PairedOutcomes:
    """Episodes that both policies played from the same start.

    Attributes:
        both: how many both solved.
        first: how many only the first solved.
        second: how many only the second solved.
        neither: how many neither solved.
    """

    both: int
    first: int
    second: int
    neither: int

    @property
    def n(self) -> int:
        """How many there are."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """The second's success rate minus the first's."""
        return (self.second - self.first) / self.n

    @property
    def p(self) -> float:
        """McNemar's exact test: how likely so lopsided a split is if neither policy is better."""
        discordant = self.first + self.second
        return float(binomial_test(self.first, discordant).pvalue) if discordant else 1.0

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of the difference, by the hybrid score method (Newcombe 1998, method 10).

        It stays honest where a policy solves all or nothing, and where the two never disagree.
        """
        wins = (self.both + self.second, self.both + self.first)
        (rate_b, low_b, high_b), (rate_a, low_a, high_a) = (
            (won / self.n, *binomial_test(won, self.n).proportion_ci(confidence, method="wilson")) for won in wins
        )
        phi = self._correlation()
        down = (rate_b - low_b) ** 2 - 2 * phi * (rate_b - low_b) * (high_a - rate_a) + (high_a - rate_a) ** 2
        up = (high_b - rate_b) ** 2 - 2 * phi * (high_b - rate_b) * (rate_a - low_a) + (rate_a - low_a) ** 2
        return self.difference - sqrt(max(down, 0)), self.difference + sqrt(max(up, 0))

    def _correlation(self) -> float:
        a, b, c, d = self.both, self.first, self.second, self.neither
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        if not margins:
            return 0.0
        product = a * d - b * c
        # Newcombe's correction for continuity, which is for positive correlation alone.
        return (max(product - self.n / 2, 0) if product > 0 else product) / sqrt(margins)


def pair(first: Sequence[Result], second: Sequence[Result]) -> dict[str, PairedOutcomes]:
    """The episodes that both have, counted for each task.

    Args:
        first: results of the one policy.
        second: results of the other.

    Raises:
        UserError: no episode of the same task began from the same seed.
    """
    others = {(row.task, row.seed): row.success for row in second}
    counts: dict[str, dict[tuple[bool, bool], int]] = {}
    for row in first:
        if (row.task, row.seed) in others:
            outcomes = (row.success, others[row.task, row.seed])
            task = counts.setdefault(row.task, {})
            task[outcomes] = task.get(outcomes, 0) + 1
    if not counts:
        raise UserError("the two have no episode in common: evaluate both on the same tasks with the same seeds")
    every = ((True, True), (True, False), (False, True), (False, False))
    return {task: PairedOutcomes(*(found.get(outcomes, 0) for outcomes in every)) for task, found in counts.items()}


def pooled(pairs: Sequence[PairedOutcomes]) -> PairedOutcomes:
    """All tasks' episodes together, each weighing the same."""
    columns = zip(*((p.both, p.first, p.second, p.neither) for p in pairs), strict=True)
    return PairedOutcomes(*map(sum, columns))


def pairs_needed(difference: float, discordant: float) -> int:
    """Episodes that both must play so that McNemar's test finds this difference four times in five (Connor 1987).

    Args:
        difference: of the success rates; its sign does not matter.
        discordant: share of episodes that only one of the two solves, at least the difference.
    """
    gap = abs(difference)
    if not 0 < gap <= discordant <= 1:
        raise ValueError(f"a difference of {difference} with {discordant} of the episodes discordant")
    level, power = ndtri(1 - LEVEL / 2), ndtri(POWER)
    return ceil((level * sqrt(discordant) + power * sqrt(discordant - gap**2)) ** 2 / gap**2)


def verdict(pairs: PairedOutcomes) -> str:
    """One line: whether the second differs from the first, by how much, and what it would take to know."""
    low, high = pairs.interval()
    said = f"{_points(pairs.difference)} points ({_points(low)} to {_points(high)}), p = {pairs.p:.2g}"
    said += f", {pairs.n} episodes that both played"
    if pairs.p < LEVEL:
        return f"the second is {'better' if pairs.difference > 0 else 'worse'}: {said}"
    line = f"no difference shown: {said}"
    if not pairs.difference:
        return line
    needed = pairs_needed(pairs.difference, (pairs.first + pairs.second) / pairs.n)
    return f"{line}; if it is as large as it looks, about {needed} would show it"


def table(pairs: dict[str, PairedOutcomes]) -> str:
    """A row a task: successes of both, episodes that only one solved, the difference with its interval, p."""
    width = max(4, *map(len, pairs))
    lines = [f"{'task':{width}}    first   second  only 1st  only 2nd  difference (95 %)      p"]
    for task, one in pairs.items():
        low, high = one.interval()
        scores = [f"{one.both + won}/{one.n}" for won in (one.first, one.second)]
        gap = f"{_points(one.difference)} ({_points(low)} to {_points(high)})"
        lines.append(
            f"{task:{width}}  {scores[0]:>7}  {scores[1]:>7}  {one.first:8}  {one.second:8}  {gap:>17}  {one.p:5.2g}"
        )
    return "\n".join(lines)


def _points(share: float) -> str:
    return f"{share * 100:+.0f}"
