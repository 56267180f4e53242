"""Draws and quantiles of noise levels against scipy's distributions, to which no code of ours leads."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from videopolicy.diffusion.noise.base import LEAST, MOST, FlowTime, HighTail, LogLogistic, LogNormal
from videopolicy.errors import UserError

MANY = 40_000
# Below this a fair draw falls once in a thousand.
FAIR = 1e-3
SHARES = (0.01, 0.2, 0.5, 0.8, 0.99)


def drawn(distribution) -> np.ndarray:
    return distribution.sample(MANY, torch.Generator().manual_seed(5)).double().numpy()


def mixture(levels):
    """The distribution function of HighTail(0.7, 1.2, 0.1, 50)."""
    tail = np.clip(np.log(np.asarray(levels) / 50) / math.log(MOST / 50), 0, 1)
    return 0.1 * tail + 0.9 * stats.norm(0.7, 1.2).cdf(np.log(levels))


def logistic(levels):
    """The distribution function of LogLogistic(-0.7, 0.5)."""
    return stats.logistic(-0.7, 0.5).cdf(np.log(levels))


def shifted(alpha, shift, last=1.0):
    """The distribution function of FlowTime(alpha, shift, last)."""

    def below(levels):
        time = np.asarray(levels) / (shift + np.asarray(levels))
        return stats.beta(alpha, 1).cdf(time / last)

    return below


KNOWN = [
    (LogNormal(1.0, 1.6), lambda levels: stats.norm(1.0, 1.6).cdf(np.log(levels))),
    (LogLogistic(-0.7, 0.5), logistic),
    (HighTail(0.7, 1.2, share=0.1, low=50.0), mixture),
    (FlowTime(), shifted(1.0, 1.0)),
    (FlowTime(alpha=7.0), shifted(7.0, 1.0)),
    (FlowTime(alpha=1.5, shift=5.0), shifted(1.5, 5.0)),
    (FlowTime(last=0.5), shifted(1.0, 1.0, 0.5)),
]
every = pytest.mark.parametrize(("distribution", "below"), KNOWN, ids=[str(known[0]) for known in KNOWN])


@every
def test_draws_are_of_the_distribution_that_it_is_said_to_be(distribution, below):
    levels = drawn(distribution)
    # Where levels are kept within bounds, a share of them lies on a bound.
    inside = (levels > LEAST * 1.001) & (levels < MOST * 0.999)
    ends = below(np.array([LEAST, MOST])) if not inside.all() else np.array([0.0, 1.0])
    assert stats.kstest((below(levels[inside]) - ends[0]) / (ends[1] - ends[0]), "uniform").pvalue > FAIR
    assert inside.mean() == pytest.approx(ends[1] - ends[0], abs=4 * math.sqrt(MANY * 0.01) / MANY)


@every
def test_a_share_lies_below_its_quantile(distribution, below):
    for share in SHARES:
        assert float(below(distribution.quantile(share))) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("distribution", [LogLogistic(2.0, 3.0), FlowTime(), FlowTime(alpha=900.0, shift=900.0)])
def test_no_level_is_infinite_or_too_small_for_a_logarithm(distribution):
    ends = np.array([*drawn(distribution), distribution.quantile(0), distribution.quantile(1)])
    assert (ends >= LEAST * 0.999).all() and (ends <= MOST).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: FlowTime(alpha=0.0), "levels.alpha"),
        (lambda: FlowTime(last=1.5), "levels.last"),
        (lambda: HighTail(0.0, 1.0, share=1.5), "levels.share"),
        (lambda: HighTail(0.0, 1.0, low=5e3), "levels.low"),
        (lambda: LogLogistic(0.0, -1.0), "levels.scale"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong, said):
    with pytest.raises(UserError, match=said):
        wrong()
