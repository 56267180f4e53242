import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.rollout.comparison import PairedOutcomes
from videopolicy.rollout.sequential import LEVEL, MARGIN, Standing, pairs_to_pass, standing

TRIALS, PAIRS = 400, 100
# Of the error rate that so many trials measure, three standard deviations.
SLACK = 3 * (LEVEL * (1 - LEVEL) / TRIALS) ** 0.5


def ends(only_first, only_second, seed=0):
    """Share of studies that end in each way, where one looks after every pair; and the pairs that they took."""
    rng, found, taken = np.random.default_rng(seed), dict.fromkeys(Standing, 0), []
    for _ in range(TRIALS):
        kinds = rng.choice(3, size=PAIRS, p=(only_first, only_second, 1 - only_first - only_second))
        lost, won = np.cumsum(kinds == 0), np.cumsum(kinds == 1)
        for n in range(1, PAIRS + 1):
            first, second = int(lost[n - 1]), int(won[n - 1])
            said = standing(PairedOutcomes(n - first - second, first, second, 0))
            if said is not Standing.OPEN:
                break
        found[said] += 1
        taken.append(n)
    return {said: count / TRIALS for said, count in found.items()}, float(np.mean(taken))


@pytest.mark.parametrize("only_second", [0, 0.1, 0.3])
def test_one_that_is_worse_by_the_margin_passes_seldom_however_often_one_looks(only_second):
    assert ends(only_second + MARGIN, only_second)[0][Standing.NOT_WORSE] <= LEVEL + SLACK


@pytest.mark.parametrize("discordant", [0, 0.05, 0.3])
def test_one_that_is_as_good_is_seldom_called_worse_however_often_one_looks(discordant):
    assert ends(discordant, discordant)[0][Standing.WORSE] <= LEVEL + SLACK


def test_it_stops_early_where_things_are_clear():
    as_good, pairs = ends(0.01, 0.01)
    assert as_good[Standing.NOT_WORSE] > 0.95 and pairs < 50
    far_worse, pairs = ends(0.5, 0)
    assert far_worse[Standing.WORSE] == 1 and pairs < 20


def test_the_fewest_pairs_are_those_on_which_both_agree():
    fewest = pairs_to_pass()
    assert standing(PairedOutcomes(fewest, 0, 0, 0)) is Standing.NOT_WORSE
    assert standing(PairedOutcomes(0, 0, 0, fewest - 1)) is Standing.OPEN
    assert standing(PairedOutcomes(fewest - 1, 1, 0, 0)) is Standing.OPEN


counts = st.integers(0, 3000)


@given(counts, counts, counts)
def test_a_pair_that_the_second_alone_solves_never_speaks_against_it(agreed, first, second):
    order = (Standing.WORSE, Standing.OPEN, Standing.NOT_WORSE)
    fewer = standing(PairedOutcomes(agreed + 1, first, second, 0))
    more = standing(PairedOutcomes(agreed, first, second + 1, 0))
    assert order.index(more) >= order.index(fewer)
