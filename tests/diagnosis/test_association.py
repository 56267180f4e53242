from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, pointbiserialr

from videopolicy.diagnosis.association import Group, associate


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def group(values, won):
    success = np.zeros(len(values), bool)
    success[list(won)] = True
    return Group(np.array(values, float), success)


def test_one_task_agrees_with_scipy(rng):
    one = group(rng.normal(size=11), [0, 2, 3, 7])
    found = associate([one], rng)
    won, lost = one.values[one.success], one.values[~one.success]
    exact = mannwhitneyu(won, lost, method="exact")
    assert found.auc == pytest.approx(exact.statistic / (len(won) * len(lost)))
    assert found.p == pytest.approx(exact.pvalue)
    assert found.r == pytest.approx(pointbiserialr(one.success, one.values).statistic)


def test_where_success_is_dealt_out_at_random_p_is_what_it_says(rng):
    values = rng.normal(size=8)
    found = [associate([group(values, won)], rng) for won in combinations(range(8), 4)]
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5)
    assert np.mean([one.r for one in found]) == pytest.approx(0, abs=1e-12)
    for level in (0.05, 0.2, 0.5):
        assert np.mean([one.p <= level for one in found]) <= level


def test_drawn_arrangements_come_near_to_all_of_them(rng):
    values, won = np.arange(17.0), [4, 8, 11, 12, 13, 15, 16]
    exact = associate([group(values, won)], rng)
    # Two tasks of which one tells nothing have the same test, but too many arrangements to try.
    useless = group(np.zeros(16), range(8))
    drawn = associate([group(values, won), useless], rng)
    assert drawn.p == pytest.approx(exact.p, abs=0.02)


def test_a_tasks_difficulty_fakes_nothing(rng):
    easy = group([10, 10, 11, 11], [0, 1, 2])
    hard = group([0, 0, 1, 1], [2])
    balanced = [group([10.0, 11.0] * 4, [0, 1, 2, 3, 4, 5]), group([0.0, 1.0] * 4, [0, 1])]
    found = associate(balanced, rng)
    assert found.auc == 0.5 and found.r == pytest.approx(0) and found.p == 1
    naive = np.concatenate([one.values for one in balanced]), np.concatenate([one.success for one in balanced])
    assert pointbiserialr(naive[1], naive[0]).statistic > 0.4
    assert associate([easy, hard], rng).successes == 4


def test_without_both_outcomes_in_any_task_there_is_nothing_to_say(rng):
    assert associate([group([1, 2, 3], [0, 1, 2]), group([1, 2], [])], rng) is None
    mixed = group([1, 2, 3, 4], [2, 3])
    assert associate([mixed, group([9, 9], [0, 1])], rng) == associate([mixed], rng)
