"""What every noise law must keep, as its `EXAMPLE` has it, or with its default configuration."""

import numpy as np
import pytest
import torch
from tests.contracts.plugins import example, skip_unless_it_can_run

from videopolicy import registry
from videopolicy.configs import from_json, to_json
from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import NoiseLaw

MANY = 20_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=registry.names("noise"))
def law(request):
    skip_unless_it_can_run("noise", request.param)
    return example("noise", request.param)


def test_it_is_a_frozen_setting_of_a_recipe(law):
    assert isinstance(law, NoiseLaw)
    hash(law)
    assert from_json(type(law), to_json(law)) == law


def test_a_level_for_every_clip_above_zero_and_by_the_generator_alone(law):
    before = torch.get_rng_state()
    first, again, other = (law.sample(5, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for level in (first.video, first.actions, first.read().video):
        assert level.shape == (5,) and level.dtype == torch.float32 and (level > 0).all() and level.isfinite().all()
    assert torch.equal(first.video, again.video) and torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)


def test_its_marginals_are_those_that_it_names(law):
    drawn = law.sample(MANY, generator())
    parts = zip((drawn.video, drawn.actions), law.counts(drawn), law.marginals(), strict=True)
    for level, marginal in ((level[counts], marginal) for level, counts, marginal in parts):
        quantiles = [marginal.quantile(share) for share in (0.1, 0.5, 0.9)]
        assert quantiles == sorted(quantiles)
        shares = [float((level < quantile).float().mean()) for quantile in quantiles]
        assert shares == pytest.approx([0.1, 0.5, 0.9], abs=0.015)


def test_it_says_of_every_clip_whether_its_parts_count_and_each_counts_in_many(law):
    for levels in (law.sample(MANY, generator()), law.grid(5)):
        for level, counts in zip((levels.video, levels.actions), law.counts(levels), strict=True):
            assert counts.shape == level.shape and counts.dtype == torch.bool
            assert counts.float().mean() > 0.2


def test_it_covers_the_pairs_that_it_draws(law):
    assert law.covers(law.sample(50, generator()).read())


def test_a_schedule_of_pairs_that_it_never_draws_is_not_covered(law):
    """Judged by its own draws: no pair that it calls covered lies where none of many draws comes near."""
    drawn = law.sample(MANY, generator()).read()
    points = torch.stack((drawn.video, drawn.actions)).log()
    for video, actions in ((80.0, 0.5), (0.5, 80.0), (3.0, 3.0), (80.0, 80.0)):
        asked = Levels(torch.tensor([video]), torch.tensor([actions]))
        near = bool(((points - torch.tensor([[video], [actions]]).log()).abs().amax(0) < 0.5).any())
        if law.covers(asked):
            assert near, (video, actions)


def test_its_grid_takes_every_level_of_either_part_once(law):
    for count in (4, 5):
        grid = law.grid(count)
        assert len(grid) == count
        for level, marginal in zip((grid.video, grid.actions), law.marginals(), strict=True):
            expected = [marginal.quantile((i + 0.5) / count) for i in range(count)]
            np.testing.assert_allclose(np.sort(level.numpy()), expected, rtol=1e-6)
        assert law.covers(grid.read())
