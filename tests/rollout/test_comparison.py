from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from videopolicy.errors import UserError
from videopolicy.rollout.comparison import PairedOutcomes, pair, pairs_needed, pooled, table, verdict
from videopolicy.rollout.results import Result


def result(task, seed, success):
    return Result(task, seed, seed, success, 10, 1.0, 2, False)


counts = st.integers(0, 30)
some_pairs = st.builds(PairedOutcomes, counts, counts, counts, counts).filter(lambda pairs: pairs.n)


def test_a_protocols_seeds_pair_episodes_of_other_numbers():
    """A seed is a start, whichever number its episode has in a protocol that lists seeds."""
    listed = [Result("a", n, seed, won, 10, 1.0, 2, False) for n, (seed, won) in enumerate([(8, True), (5, False)])]
    plain = [result("a", seed, won) for seed, won in [(5, True), (6, True), (7, False), (8, True)]]
    assert pair(listed, plain) == {"a": PairedOutcomes(both=1, first=0, second=1, neither=0)}


def test_episodes_are_paired_by_task_and_seed():
    first = [result("a", 1, True), result("a", 2, False), result("a", 3, True), result("b", 1, True)]
    second = [result("a", 3, True), result("a", 1, False), result("a", 2, True), result("c", 1, True)]
    assert pair(first, second) == {"a": PairedOutcomes(both=1, first=1, second=1, neither=0)}


def test_nothing_in_common_is_refused():
    with pytest.raises(UserError, match="no episode in common"):
        pair([result("a", 1, True)], [result("a", 2, True)])


@pytest.mark.parametrize(
    ("pairs", "interval"),
    # Newcombe 1998 (Statistics in Medicine 17, 2635-2650), table III, method 10; the difference there is turned round.
    [
        (PairedOutcomes(36, 12, 2, 0), (0.0569, 0.3404)),
        (PairedOutcomes(36, 14, 0, 0), (0.1528, 0.4167)),
        (PairedOutcomes(0, 30, 0, 0), (0.8395, 1.0000)),
        (PairedOutcomes(54, 0, 0, 0), (-0.0664, 0.0664)),
    ],
)
def test_published_intervals(pairs, interval):
    low, high = pairs.interval()
    assert (-high, -low) == pytest.approx(interval, abs=6e-5)


@given(some_pairs)
def test_the_interval_holds_the_difference_and_mirrors(pairs):
    low, high = pairs.interval()
    assert -1 - 1e-9 <= low <= pairs.difference <= high <= 1 + 1e-9
    mirrored = PairedOutcomes(pairs.both, pairs.second, pairs.first, pairs.neither)
    assert mirrored.interval() == pytest.approx((-high, -low), abs=1e-9)
    assert mirrored.p == pytest.approx(pairs.p)


@given(some_pairs)
def test_mcnemars_test_is_the_two_sided_sign_test_of_the_discordant(pairs):
    n, k = pairs.first + pairs.second, min(pairs.first, pairs.second)
    assert pairs.p == pytest.approx(min(1.0, 2 * binom.cdf(k, n, 0.5)) if n else 1.0)


@pytest.mark.slow
def test_the_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for shares in ([0.5, 0.2, 0.1, 0.2], [0.8, 0.05, 0.1, 0.05], [0.1, 0.1, 0.3, 0.5]):
        truth = shares[2] - shares[1]
        draws = [PairedOutcomes(*map(int, rng.multinomial(40, shares))).interval() for _ in range(1000)]
        assert 0.93 < np.mean([low <= truth <= high for low, high in draws]) < 0.99


def test_so_many_pairs_find_the_difference_four_times_in_five():
    rng = np.random.default_rng(0)
    for difference, discordant in ((0.1, 0.2), (0.2, 0.5)):
        n = pairs_needed(difference, discordant)
        shares = [0.2, (discordant - difference) / 2, (discordant + difference) / 2, 0.8 - discordant]
        found = [PairedOutcomes(*map(int, rng.multinomial(n, shares))).p < 0.05 for _ in range(1000)]
        # The exact test is a little more cautious than the formula.
        assert 0.72 < np.mean(found) < 0.85


@pytest.mark.parametrize(("difference", "discordant"), [(0, 0.5), (0.3, 0.2), (0.5, 1.1)])
def test_impossible_differences_are_refused(difference, discordant):
    with pytest.raises(ValueError, match="difference"):
        pairs_needed(difference, discordant)


def test_the_verdict_says_which_is_better_or_what_it_would_take():
    assert verdict(PairedOutcomes(10, 2, 15, 3)).startswith("the second is better: +43 points (+19 to +61), p = 0.0023")
    assert verdict(PairedOutcomes(10, 15, 2, 3)).startswith("the second is worse: -43 points")
    assert "no difference shown: +3 points" in verdict(PairedOutcomes(20, 4, 5, 1))
    assert "would show it" in verdict(PairedOutcomes(20, 4, 5, 1))
    assert verdict(PairedOutcomes(20, 0, 0, 0)).endswith("20 episodes that both played")


def test_the_table_has_a_row_a_task_and_all_tasks_pool():
    tasks = {"a": PairedOutcomes(1, 2, 3, 4), "longer": PairedOutcomes(5, 0, 0, 5)}
    rows = table(tasks).splitlines()
    assert [row.split()[:3] for row in rows[1:]] == [["a", "3/10", "4/10"], ["longer", "5/10", "5/10"]]
    assert len({len(row) for row in rows}) == 1
    assert pooled(list(tasks.values())) == PairedOutcomes(6, 2, 3, 9)


def test_every_split_of_a_few_episodes_has_a_verdict():
    for split in product(range(3), repeat=4):
        if sum(split):
            assert verdict(PairedOutcomes(*split))
