import numpy as np
import pytest
import torch

from videopolicy.diagnosis.inverse import fit, intervals
from videopolicy.errors import UserError

pytestmark = pytest.mark.slow


def test_reads_far_better_than_a_constant_and_says_so(shown, fitted):
    reader, trust = fitted
    assert trust.error < 0.6 * trust.constant
    assert trust.readable.tolist() == [0, 1]
    pairs = intervals(shown[1], [4])
    wrong = reader.normalised(pairs.actions) - reader.read(pairs)
    assert np.sqrt((wrong**2).mean()) < 0.6


def test_reads_what_changes_and_nothing_else(shown, fitted):
    pairs = intervals(shown[1], [4])
    # Another scene behind the same change.
    other = type(pairs)(pairs.before + 1, pairs.after + 1, pairs.gaps, pairs.actions)
    assert fitted[0].read(other) == pytest.approx(fitted[0].read(pairs), abs=0.05)


def test_an_interval_has_the_mean_of_the_actions_within_it(shown):
    pairs, one, start = intervals(shown[1][:1], [3, 5]), shown[1][0], 2
    assert int(pairs.gaps[start]) == 3
    assert torch.equal(pairs.before[start], one.codes[start])
    assert torch.equal(pairs.after[start], one.codes[start + 3])
    assert pairs.actions[start] == pytest.approx(one.actions[start : start + 3].mean(0), abs=1e-6)


def test_a_single_demonstration_teaches_nothing(shown):
    with pytest.raises(UserError, match="1 successful demonstrations"):
        fit(shown[1][:1], [4], seed=0)
    with pytest.raises(UserError, match="more than 500 steps"):
        fit(shown[1], [500], seed=0)
