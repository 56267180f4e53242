import numpy as np
import pytest
from scipy.stats import binom

from videopolicy.rollout.results import Result
from videopolicy.rollout.statistics import clopper_pearson, summary_line, table


def test_known_values():
    interval = clopper_pearson(18, 20)
    assert interval.low == pytest.approx(0.68302, abs=1e-5)
    assert interval.high == pytest.approx(0.98765, abs=1e-5)
    assert summary_line(18, 20) == "success 18/20 (68-99 %)"


@pytest.mark.parametrize("n", [1, 10, 200])
def test_none_and_all_have_closed_forms_that_mirror_each_other(n):
    none, all_ = clopper_pearson(0, n), clopper_pearson(n, n)
    assert none.low == 0 and none.high == pytest.approx(1 - 0.025 ** (1 / n))
    assert all_.high == 1 and all_.low == pytest.approx(1 - none.high)


def test_no_episodes_tell_nothing():
    interval = clopper_pearson(0, 0)
    assert (interval.low, interval.high) == (0, 1)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_covers_at_least_as_often_as_it_says(confidence):
    n = 15
    intervals = [clopper_pearson(k, n, confidence) for k in range(n + 1)]
    for rate in np.linspace(0.01, 0.99, 99):
        covered = sum(binom.pmf(k, n, rate) for k, i in enumerate(intervals) if i.low <= rate <= i.high)
        assert covered >= confidence


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="3 successes of 2"):
        clopper_pearson(3, 2)


def test_table_has_a_row_per_task():
    rows = [Result("a", 0, 7, True, 10, 1.0, 2, False), Result("a", 1, 8, False, 50, 1.0, 4, False)]
    lines = table([*rows, Result("longer", 0, 7, True, 30, 1.0, 3, False)]).splitlines()
    assert lines[1].split() == ["a", "1/2", "1-99", "%", "30.0", "3.0"]
    assert lines[2].split()[:2] == ["longer", "1/1"]
    assert len({len(line) for line in lines[1:]}) == 1
