import numpy as np
import pytest
from scipy.stats import binom

from videopolicy.rollout.results import Result
from videopolicy.rollout.statistics import (
    clopper_pearson,
    episodes_needed,
    mean_lines,
    mean_over_tasks,
    odd_endings,
    summary_line,
    table,
    tallies,
)


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
    with pytest.raises(ValueError, match="3"):
        clopper_pearson(3, 2)


def test_table_has_a_row_per_task():
    rows = [Result("a", 0, 7, True, 10, 1.0, 2, False), Result("a", 1, 8, False, 50, 1.0, 4, False)]
    lines = table([*rows, Result("longer", 0, 7, True, 30, 1.0, 3, False)]).splitlines()
    assert lines[1].split() == ["a", "1/2", "1-99", "%", "30.0", "3.0"]
    assert lines[2].split()[:2] == ["longer", "1/1"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_the_tasks_are_told_apart_in_their_order_and_dead_episodes_have_no_length():
    rows = [Result("b", 0, 7, True, 10, 1.0, 2, False), Result("a", 0, 7, False, 0, 1.0, 0, False, 1, "crashed")]
    first, second = tallies([*rows, Result("b", 1, 8, False, 20, 1.0, 5, False)])
    assert (first.task, first.successes, first.n, first.steps, first.plans) == ("b", 1, 2, 15.0, 3.5)
    assert (first.rate, first.interval) == (0.5, clopper_pearson(1, 2))
    assert (second.task, second.successes, second.n, second.steps, second.plans) == ("a", 0, 1, None, None)


def test_a_reference_stands_beside_its_task():
    rows = [Result(task, 0, 7, True, 10, 1.0, 2, False) for task in ("a", "b")]
    header, first, second = table(rows, {"b": 0.625, "c": 1.0}).splitlines()
    assert header.endswith("  reference") and len(header) == len(first) == len(second)
    assert first.split()[-1] == "-" and second.endswith(" 62 %")


def test_an_episode_whose_process_died_is_a_failure_of_unknown_length():
    dead = Result("a", 1, 8, False, 0, 1.0, 0, False, 1, "crashed")
    rows = [Result("a", 0, 7, True, 10, 1.0, 2, False, 0, "success"), dead]
    assert table(rows).splitlines()[1].split() == ["a", "1/2", "1-99", "%", "10.0", "2.0"]
    assert table([dead]).splitlines()[1].split()[-2:] == ["-", "-"]
    assert odd_endings(rows) == "1 of 2 episodes count as failures without having come to their end: 1 crashed"
    assert odd_endings(rows[:1]) == ""


def test_the_mean_is_told_with_its_interval_and_what_it_takes_to_know_a_task():
    rows = [Result(task, i, i, i < won, 10, 1.0, 2, False) for task, won in (("a", 9), ("b", 3)) for i in range(10)]
    needed, mean = mean_lines(rows, reference=0.94)
    assert mean.startswith("mean over 2 tasks 60 % (") and mean.endswith("), reference 94 %")
    assert str(episodes_needed(0.6, 0.05)) in needed
    assert mean_lines(rows) == mean_lines(rows) and "reference" not in mean_lines(rows)[1]


def test_the_mean_over_tasks_weighs_each_task_the_same():
    mean, interval = mean_over_tasks([(9, 10), (10, 100)], np.random.default_rng(0))
    assert mean == pytest.approx(0.5)
    assert interval.low < mean < interval.high


def test_one_tasks_bootstrap_is_the_binomials_own_spread():
    _, interval = mean_over_tasks([(12, 20)], np.random.default_rng(0))
    assert interval.low == pytest.approx(binom.ppf(0.025, 20, 0.6) / 20, abs=0.051)
    assert interval.high == pytest.approx(binom.ppf(0.975, 20, 0.6) / 20, abs=0.051)


def test_the_bootstrap_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    rates = np.array([0.2, 0.5, 0.9, 0.7, 0.4])
    intervals = [
        mean_over_tasks([(int(k), 30) for k in rng.binomial(30, rates)], rng, draws=1000)[1] for _ in range(400)
    ]
    assert 0.91 < np.mean([i.low <= rates.mean() <= i.high for i in intervals]) < 0.98


def test_tasks_at_all_or_nothing_still_leave_doubt():
    mean, interval = mean_over_tasks([(10, 10), (0, 10)], np.random.default_rng(0))
    assert mean == 0.5
    assert interval == clopper_pearson(10, 20)


def test_so_many_episodes_are_enough_and_fewer_are_not():
    n = episodes_needed(0.63, 0.05)
    wide = [clopper_pearson(round(0.63 * count), count) for count in (n, n // 2)]
    assert wide[0].high - wide[0].low <= 0.1 < wide[1].high - wide[1].low
    assert episodes_needed(1.0, 0.05) < episodes_needed(0.9, 0.05) < episodes_needed(0.5, 0.05)
