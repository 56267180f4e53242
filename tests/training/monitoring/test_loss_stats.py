from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.diffusion.loss import Counts, Losses
from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.training.monitoring.loss_stats import BANDS, COLUMNS, LossStats, band, means

LAW = independent.Config(LogNormal(1.0, 1.6), LogNormal(-1.0, 0.5))


def losses(clips, seed=0, has_actions=None):
    generator = torch.Generator().manual_seed(seed)
    known = torch.ones(clips, dtype=torch.bool) if has_actions is None else torch.tensor(has_actions)
    video, actions = torch.rand(clips, 3, generator=generator), torch.rand(clips, 8, generator=generator)
    counts = Counts(torch.ones(clips, 3, dtype=torch.bool), known[:, None].expand(clips, 8))
    return Losses(video, actions * known[:, None], counts, LAW.sample(clips, generator))


@pytest.mark.parametrize("noise", [LAW.video, LAW.actions])
def test_each_band_holds_a_third_of_the_noise_levels_of_training(noise):
    sigma = noise.sample(30000, torch.Generator().manual_seed(0)).numpy()
    shares = np.bincount(band(sigma, noise), minlength=3) / len(sigma)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.01)
    assert sigma[band(sigma, noise) == 0].max() < noise.quantile(1 / 3) <= sigma[band(sigma, noise) == 1].min()
    assert sigma[band(sigma, noise) == 1].max() < noise.quantile(2 / 3) <= sigma[band(sigma, noise) == 2].min()


@given(st.integers(1, 60), st.integers(0, 100))
def test_bands_partition_the_clips_so_their_means_make_the_whole_mean(clips, seed):
    """Each part by bands of its own levels."""
    stats = LossStats(("video", "action"), LAW)
    stats.add(losses(clips, seed), torch.tensor(1.0))
    rows = stats.state()["clips"].double().numpy()
    told = means(rows, ("video", "action"), LAW)
    for part, marginal in zip(COLUMNS, LAW.marginals(), strict=True):
        counts = np.bincount(band(rows[:, COLUMNS[part][1]], marginal), minlength=3)
        inside = [told.get(f"{part}_{name}", 0.0) * count for name, count in zip(BANDS, counts, strict=True)]
        assert sum(inside) / clips == pytest.approx(told[part])
        assert {name for name in BANDS if f"{part}_{name}" in told} == {BANDS[i] for i in np.nonzero(counts)[0]}


def test_a_reading_is_of_the_steps_since_the_last():
    stats = LossStats(("video", "action"), LAW)
    first, second, third = (losses(4, seed) for seed in range(3))
    for step, norm in ((first, 1.0), (second, 3.0)):
        stats.add(step, torch.tensor(norm))
    told = stats.read()
    assert told["grad_norm"] == 2 and told["with_actions"] == 1
    assert told["video"] == pytest.approx(torch.cat((first.video, second.video)).mean().item())
    stats.add(third, torch.tensor(7.0))
    assert stats.read()["video"] == pytest.approx(third.mean_video.item())


def test_clips_without_actions_count_for_the_video_alone():
    stats = LossStats(("video", "action"), LAW)
    some = losses(4, has_actions=[True, False, False, True])
    stats.add(some, torch.tensor(1.0))
    told = stats.read()
    assert told["with_actions"] == 0.5
    assert told["action"] == pytest.approx(some.mean_actions.item())
    assert told["video"] == pytest.approx(some.mean_video.item())
    stats.add(losses(4, has_actions=[False] * 4), torch.tensor(1.0))
    none = stats.read()
    assert none["action"] == 0 and not any(name.startswith("action_") for name in none)


def test_collecting_keeps_no_graph():
    stats = LossStats(("video",), LAW)
    weight = torch.ones(1, requires_grad=True)
    found = losses(4)
    stats.add(replace(found, video=found.video * weight), weight.sum())
    assert not any(tensor.requires_grad for tensor in (*stats._clips, *stats._norms))
