import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.diffusion.edm import LogNormal
from videopolicy.diffusion.loss import Losses
from videopolicy.training.monitoring.loss_stats import BANDS, LossStats, band, edges, means

NOISE = LogNormal(1.0, 1.6)


def losses(clips, seed=0, has_actions=None):
    generator = torch.Generator().manual_seed(seed)
    sigma = NOISE.sample((clips,), generator)
    known = torch.ones(clips, dtype=torch.bool) if has_actions is None else torch.tensor(has_actions)
    video, actions = torch.rand(clips, 3, generator=generator), torch.rand(clips, 8, generator=generator)
    return Losses(video, actions * known[:, None], known, sigma)


@pytest.mark.parametrize("noise", [NOISE, LogNormal(-1.2, 0.5)])
def test_each_band_holds_a_third_of_the_noise_levels_of_training(noise):
    sigma = noise.sample((30000,), torch.Generator().manual_seed(0)).numpy()
    shares = np.bincount(band(sigma, noise), minlength=3) / len(sigma)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.01)
    assert sigma[band(sigma, noise) == 0].max() < edges(noise)[0] <= sigma[band(sigma, noise) == 1].min()
    assert sigma[band(sigma, noise) == 1].max() < edges(noise)[1] <= sigma[band(sigma, noise) == 2].min()


@given(st.integers(1, 60), st.integers(0, 100))
def test_bands_partition_the_clips_so_their_means_make_the_whole_mean(clips, seed):
    found = losses(clips, seed)
    rows = torch.stack([found.video.mean(1), found.actions.mean(1), found.sigma, found.has_actions], 1).double().numpy()
    told = means(rows, ("video", "action"), NOISE)
    counts = np.bincount(band(rows[:, 2], NOISE), minlength=3)
    for part in ("video", "action"):
        inside = [told.get(f"{part}_{name}", 0.0) * count for name, count in zip(BANDS, counts, strict=True)]
        assert sum(inside) / clips == pytest.approx(told[part])
        assert {name for name in BANDS if f"{part}_{name}" in told} == {BANDS[i] for i in np.nonzero(counts)[0]}


def test_a_reading_is_of_the_steps_since_the_last():
    meter = LossStats(("video", "action"), NOISE)
    first, second, third = (losses(4, seed) for seed in range(3))
    for step, norm in ((first, 1.0), (second, 3.0)):
        meter.add(step, torch.tensor(norm))
    told = meter.read()
    assert told["gradient"] == 2 and told["with_actions"] == 1
    assert told["video"] == pytest.approx(torch.cat((first.video, second.video)).mean().item())
    meter.add(third, torch.tensor(7.0))
    assert meter.read()["video"] == pytest.approx(third.mean_video.item())


def test_clips_without_actions_count_for_the_video_alone():
    meter = LossStats(("video", "action"), NOISE)
    some = losses(4, has_actions=[True, False, False, True])
    meter.add(some, torch.tensor(1.0))
    told = meter.read()
    assert told["with_actions"] == 0.5
    assert told["action"] == pytest.approx(some.mean_actions.item())
    assert told["video"] == pytest.approx(some.mean_video.item())
    meter.add(losses(4, has_actions=[False] * 4), torch.tensor(1.0))
    none = meter.read()
    assert none["action"] == 0 and not any(name.startswith("action_") for name in none)


def test_collecting_keeps_no_graph():
    meter = LossStats(("video",), NOISE)
    weight = torch.ones(1, requires_grad=True)
    found = losses(4)
    meter.add(Losses(found.video * weight, found.actions, found.has_actions, found.sigma), weight.sum())
    assert not any(tensor.requires_grad for tensor in (*meter._clips, *meter._norms))
