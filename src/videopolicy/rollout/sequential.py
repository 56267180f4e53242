"""Whether a policy is not worse than another on the same starts, told as soon as enough of them have been played.

The test is by betting (Waudby-Smith and Ramdas 2024, arXiv 2010.09686): a stake that no bet can be expected to increase
while a hypothesis holds grows beyond 1 / LEVEL with a probability of at most LEVEL, at whatever time one stops to look
(Ville 1939). A bet on a pair of episodes is on their difference: the second's success minus the first's, -1, 0 or 1.
A fixed mixture of bets needs only the counts of `PairedOutcomes`, in whatever order the pairs came.
"""

from enum import Enum
from itertools import count
from math import exp, log, log1p

from videopolicy.rollout.comparison import PairedOutcomes

# How often a policy that is worse by MARGIN, or more, passes; and how often one that is as good is called worse.
LEVEL = 0.05
# The difference of the success rates that begins to matter: ten points.
MARGIN = 0.1
# What a bet loses of the stake with a pair that only the first policy solves: small ones live through losses, large
# ones need few pairs where the two policies never disagree.
SHARES = (0.2, 0.4, 0.6, 0.8, 0.95)


class Standing(Enum):
    """What the pairs played so far say of the second policy."""

    NOT_WORSE = "not worse"
    WORSE = "worse"
    OPEN = "undecided"


def standing(pairs: PairedOutcomes) -> Standing:
    """What is known of the second policy's success rate, compared with the first's.

    NOT_WORSE refutes that it is lower by MARGIN or more, WORSE that it is as high or higher. Each is wrong with a
    probability of at most LEVEL, however often one looks while the episodes come in. Of several tasks, look when each
    has given the same number of pairs; the difference is then that of the means over the tasks.

    Args:
        pairs: the first is the policy to compare with.
    """
    # Growth is by 1 + bet * (difference + margin), which is fair or worse if the mean difference is -margin or less.
    if _stake(pairs.second, pairs.first, pairs.n, MARGIN) >= 1 / LEVEL:
        return Standing.NOT_WORSE
    if _stake(pairs.first, pairs.second, pairs.n, 0.0) >= 1 / LEVEL:
        return Standing.WORSE
    return Standing.OPEN


def pairs_to_pass() -> int:
    """The fewest pairs that can show NOT_WORSE: so many on which the two policies never disagree."""
    return next(n for n in count(1) if _stake(0, 0, n, MARGIN) >= 1 / LEVEL)


def _stake(gains: int, losses: int, n: int, margin: float) -> float:
    """What a stake of 1 has become, betting that gains minus losses is more than -margin a pair."""
    total = 0.0
    for share in SHARES:
        bet = share / (1 - margin)
        # In logarithms, which no number of pairs makes overflow before the end is clear.
        grown = gains * log1p(bet * (1 + margin)) + losses * log1p(bet * (margin - 1))
        grown += (n - gains - losses) * log1p(bet * margin)
        total += exp(min(grown, log(1e12))) / len(SHARES)
    return total
