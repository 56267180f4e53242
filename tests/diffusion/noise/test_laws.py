"""On drawn batches: each law draws the pairs that its paper says, and no others."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise import asynchronous, cascade, flash, independent, joint, pinned, starts
from videopolicy.diffusion.noise.base import CLEAN, FlowTime

MANY = 40_000
FAIR = 1e-3


def draw(law) -> Levels:
    return law.sample(MANY, torch.Generator().manual_seed(7)).map(torch.Tensor.double)


def time_of(levels, shift=1.0) -> np.ndarray:
    """Flow time, which is 1 in pure noise."""
    return (levels / (shift + levels)).numpy()


def fair(times, alpha=1.0) -> bool:
    """Whether flow times are of Beta(alpha, 1)."""
    return stats.kstest(times, stats.beta(alpha, 1).cdf).pvalue > FAIR


def unrelated(one, other) -> bool:
    return stats.spearmanr(one, other).pvalue > FAIR


def is_share(chosen, share: float) -> bool:
    """Whether as many are chosen as four deviations of a binomial draw allow."""
    return abs(float(chosen.double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / MANY)


def pairs(*of) -> Levels:
    video, actions = zip(*of, strict=True)
    return Levels(torch.tensor(video), torch.tensor(actions))


def within_bounds(times):
    """Those that no bound has moved."""
    return times[(times > 0.0021) & (times < 0.9989)]


def test_flash_draws_noisy_video_and_actions_of_any_level_independently():
    found = draw(flash.Config())
    video, actions = time_of(found.video), time_of(found.actions)
    assert fair(video[video < 0.9989] / 0.9989, 7.0)
    assert fair((within_bounds(actions) - 0.0021) / (0.9989 - 0.0021))
    assert unrelated(video, actions)
    assert np.mean(video) == pytest.approx(7 / 8, abs=0.003)


def test_asynchronous_has_clean_actions_in_its_share_and_then_video_of_any_level():
    for share in (0.5, 0.2):
        law = asynchronous.Config(clean=share)
        found = draw(law)
        clean = found.actions <= CLEAN * 1.0001
        assert is_share(clean, share)
        assert fair((within_bounds(time_of(found.video[clean], 5.0)) - 0.0021) / (0.9989 - 0.0021))


def test_asynchronous_never_draws_video_that_is_less_noisy_than_its_actions():
    found = draw(asynchronous.Config())
    assert (found.video >= found.actions).all()
    noisy = found.actions > CLEAN * 1.0001
    video, actions = time_of(found.video[noisy], 5.0), time_of(found.actions[noisy], 5.0)
    inside = actions < 0.9
    # How far the video stays behind, as a share of how far it could, does not depend on the actions.
    behind = ((video - actions) / (1 - actions))[inside]
    free = behind < 0.99
    assert fair(behind[free] / 0.99, 1.5)
    assert unrelated(behind, actions[inside])
    assert fair(actions[inside] / 0.9)


def test_asynchronous_counts_the_loss_of_noisy_actions_alone():
    law = asynchronous.Config()
    found = law.sample(MANY, torch.Generator().manual_seed(7))
    video, actions = law.counts(found)
    assert video.all()
    assert torch.equal(actions, found.actions > CLEAN)
    assert is_share(actions, 0.5)


@pytest.mark.parametrize(
    "law", [joint.Config(), independent.Config(), pinned.EXAMPLE, starts.EXAMPLE, cascade.Config()]
)
def test_of_the_other_laws_everything_counts(law):
    video, actions = law.counts(draw(law))
    assert video.all() and actions.all() and video.shape == actions.shape == (MANY,)


def test_cascade_shows_the_head_the_true_future_and_a_little_noise():
    law = cascade.Config()
    found = draw(law)
    clean = found.features <= CLEAN * 1.0001
    assert is_share(clean, 0.5)
    times = time_of(found.features[~clean])
    assert times.max() <= 0.5 + 1e-6
    assert fair((times - CLEAN) / (0.5 - CLEAN))
    assert unrelated(found.features, found.actions) and unrelated(found.features, found.video)
    video, actions = time_of(found.video, 5.0), time_of(found.actions)
    assert fair(video[video < 0.995] / 0.995) and fair((within_bounds(actions) - 0.0021) / (0.9989 - 0.0021))


def test_read_takes_the_level_of_the_features_and_leaves_the_videos_own():
    found = draw(cascade.Config())
    assert torch.equal(found.read().video, found.features)
    assert not torch.equal(found.video, found.features)


@pytest.mark.parametrize(
    ("law", "yes", "no"),
    [
        (flash.Config(), [(80.0, 0.02), (0.5, 80.0), (1000.0, 1000.0)], [(5000.0, 1.0), (1.0, 5000.0), (1e-4, 1.0)]),
        (asynchronous.Config(), [(80.0, 0.02), (3.0, 3.0), (3.0, 2.999)], [(3.0, 3.1), (0.5, 80.0), (5000.0, 1.0)]),
        (cascade.Config(), [(0.667, 80.0), (1.0, 0.02), (CLEAN, 5.0)], [(1.1, 0.02), (80.0, 80.0)]),
        (cascade.Config(clean=1.0), [(CLEAN, 5.0)], [(0.667, 5.0)]),
        (cascade.Config(read=FlowTime()), [(80.0, 80.0)], [(5000.0, 1.0)]),
    ],
)
def test_it_covers_the_pairs_that_it_can_draw_and_no_schedule_with_another(law, yes, no):
    assert law.covers(pairs(*yes))
    for one in no:
        assert not law.covers(pairs(one))
        assert not law.covers(pairs(*yes, one))


@pytest.mark.parametrize("law", [asynchronous.Config(), asynchronous.Config(clean=0.0, alpha=4.0, shift=1.0)])
def test_the_levels_of_asynchronous_video_are_those_of_both_kinds_of_clips_together(law):
    found, marginal = draw(law).video, law.marginals()[0]
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert is_share(found < marginal.quantile(share), share)


@pytest.mark.parametrize("law", [asynchronous.Config(), flash.Config(), cascade.Config()])
def test_all_of_its_grid_counts(law):
    video, actions = law.counts(law.grid(5))
    assert video.all() and actions.all()


def test_the_grid_of_cascade_reads_levels_in_the_shares_that_training_does():
    grid = cascade.Config().grid(20).features
    assert int((grid <= CLEAN * 1.0001).sum()) == 10
    assert sorted(time_of(grid)[10:]) == pytest.approx(np.linspace(0.025, 0.475, 10))


def test_the_draws_of_a_law_do_not_depend_on_its_settings_elsewhere():
    """Another share of clean actions changes which are clean, and nothing of those that are not in either."""
    some, none = draw(asynchronous.Config()), draw(asynchronous.Config(clean=0.0))
    noisy = some.actions > CLEAN * 1.0001
    assert torch.equal(some.actions[noisy], none.actions[noisy])
    assert torch.equal(some.video[noisy], none.video[noisy])
    assert replace(asynchronous.Config(), clean=0.0).marginals()[1] == FlowTime(shift=5.0)
