import numpy as np
import pytest
from scipy.stats import binom, norm

from videopolicy.errors import UserError
from videopolicy.rollout.results import Result
from videopolicy.rollout.statistics import clopper_pearson
from videopolicy.rollout.trainings import difference, mean_success, outcomes

STUDIES, DRAWS = 400, 400
STARTS = 0.7


def study(rng, trainings, spread, rates, tasks=2, episodes=25):
    """Outcomes of methods of these success rates on the same starts: a training is luckier, a start is easier."""
    methods = []
    easy = [rng.normal(0, STARTS, episodes) for _ in range(tasks)]
    for rate in rates:
        # So that the rate over trainings and starts is this one, exactly.
        middle = norm.ppf(rate) * np.sqrt(1 + spread**2 + STARTS**2)
        lucky = rng.normal(0, spread, trainings)[:, None]
        methods.append([middle + lucky + task + rng.normal(size=(trainings, episodes)) > 0 for task in easy])
    return methods


def least(studies):
    """So many of the studies' 95 % intervals hold the truth at least, but for one in a thousand such tests."""
    return binom.ppf(0.001, studies, 0.95) / studies


@pytest.mark.parametrize(("trainings", "spread"), [(3, 0.0), (3, 0.25), (3, 0.8), (5, 0.8), (1, 0.0)])
def test_an_interval_holds_the_truth_as_often_as_it_says(trainings, spread):
    rng = np.random.default_rng(trainings)
    held = 0
    for _ in range(STUDIES):
        (tasks,) = study(rng, trainings, spread, [0.6])
        found = mean_success(tasks, rng, draws=DRAWS)
        held += found.low <= 0.6 <= found.high
    assert held / STUDIES >= least(STUDIES)


@pytest.mark.parametrize(("trainings", "spread"), [(3, 0.25), (3, 0.8), (5, 0.4)])
def test_so_does_that_of_a_difference(trainings, spread):
    rng = np.random.default_rng(trainings)
    held = 0
    for _ in range(STUDIES):
        first, second = study(rng, trainings, spread, [0.5, 0.65])
        found = difference(first, second, rng, draws=DRAWS)
        held += found.low <= 0.15 <= found.high
    assert held / STUDIES >= least(STUDIES)


def test_trainings_that_differ_are_not_taken_for_many_episodes():
    """Of three trainings by the same recipe, one that failed: episodes alone would be sure to 10 points."""
    rng = np.random.default_rng(0)
    tasks = [np.repeat([[0], [1], [1]], 200, axis=1) & (rng.random((3, 200)) < 0.9)]
    found = mean_success(tasks, rng)
    assert found.high - found.low > 0.9
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_of_one_training_it_is_the_bootstrap_of_episodes_and_says_so():
    won = np.arange(40) < 26
    found = mean_success([won[None]], np.random.default_rng(0))
    assert found.low == pytest.approx(binom.ppf(0.025, 40, 0.65) / 40, abs=0.026)
    assert found.high == pytest.approx(binom.ppf(0.975, 40, 0.65) / 40, abs=0.026)
    assert "anecdote" in found.warning
    assert str(found) == f"65 points ({100 * found.low:.0f} to {100 * found.high:.0f}), 1 training, 40 episodes each"
    assert not mean_success([np.stack([won, won, won])], np.random.default_rng(0)).warning


def test_every_task_weighs_the_same():
    tasks = [np.ones((3, 10), bool), np.zeros((3, 90), bool)]
    found = mean_success(tasks, np.random.default_rng(0))
    assert found.estimate == 0.5
    assert (found.trainings, found.episodes) == (3, 100)


def test_the_same_generator_gives_the_same_interval():
    (tasks,) = study(np.random.default_rng(1), 3, 0.4, [0.6])
    assert mean_success(tasks, np.random.default_rng(2)) == mean_success(tasks, np.random.default_rng(2))


def test_the_same_starts_cancel_what_is_hard_for_both():
    rng = np.random.default_rng(0)
    easy = rng.random(100) < 0.5
    first = [np.tile(easy, (3, 1))]
    second = [np.tile(easy | (np.arange(100) < 10), (3, 1))]
    found = difference(first, second, rng)
    alone = mean_success(second, rng)
    assert found.estimate == pytest.approx(second[0].mean() - first[0].mean())
    assert found.high - found.low < (alone.high - alone.low) / 2


def test_paired_trainings_cancel_what_the_training_did():
    rng = np.random.default_rng(0)
    level = np.array([[0.2], [0.5], [0.9]])
    draw = rng.random((3, 100))
    first, second = [draw < level], [draw < level + 0.1]
    together, apart = (difference(first, second, rng, paired=paired) for paired in (True, False))
    assert together.estimate == apart.estimate
    assert together.high - together.low < (apart.high - apart.low) / 3


def test_the_difference_turns_its_sign_with_the_order():
    first, second = study(np.random.default_rng(3), 3, 0.3, [0.4, 0.6])
    there, back = (
        difference(first, second, np.random.default_rng(0)),
        difference(second, first, np.random.default_rng(0)),
    )
    assert there.estimate == pytest.approx(-back.estimate)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.02)


def test_where_nothing_differs_there_is_still_doubt():
    all_won = mean_success([np.ones((3, 20), bool)], np.random.default_rng(0))
    exact = clopper_pearson(20, 20)
    assert (all_won.low, all_won.high) == (pytest.approx(exact.low), 1.0)
    alike = difference([np.ones((3, 20), bool)], [np.ones((2, 20), bool)], np.random.default_rng(0))
    assert alike.estimate == 0 and alike.low == -alike.high < -0.1
    assert alike.trainings == 2


def test_outcomes_are_of_the_starts_that_all_have_played():
    def rows(task, seeds, won):
        return [Result(task, i, seed, seed in won, 1, 1.0, 1, False) for i, seed in enumerate(seeds)]

    one = [rows("b", [3, 1, 2], [1]) + rows("a", [1], [1]), rows("a", [1, 5], [5]) + rows("b", [2, 3], [2, 3])]
    other = [rows("a", [5, 1], [1, 5]) + rows("b", [3, 2, 9], [3])]
    first, second = outcomes(one, other)
    assert [task.tolist() for task in first] == [[[True], [False]], [[False, False], [True, True]]]
    assert [task.tolist() for task in second] == [[[True]], [[False, True]]]
    with pytest.raises(UserError, match="no start of a was played by all"):
        outcomes(one, [rows("b", [2], [])])
    with pytest.raises(UserError, match="no results"):
        outcomes(one, [[]])


@pytest.mark.parametrize("tasks", [[], [np.ones((3, 0))], [np.ones((3, 2)), np.ones((2, 2))]])
def test_what_is_no_study_is_refused(tasks):
    with pytest.raises(ValueError, match="same trainings"):
        mean_success(tasks, np.random.default_rng(0))


def test_other_starts_are_no_pairs():
    with pytest.raises(ValueError, match="same starts"):
        difference([np.ones((3, 5))], [np.ones((3, 4))], np.random.default_rng(0))
    with pytest.raises(ValueError, match="paired trainings"):
        difference([np.ones((3, 5))], [np.ones((2, 5))], np.random.default_rng(0), paired=True)
