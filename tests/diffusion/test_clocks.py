"""Clocks of two parts, on Gaussians whose flow is known."""

import pytest
import torch
from tests.diffusion.samplers.gaussian import FreezableGaussian, drawn

from videopolicy.diffusion.clocks import FORWARD_DYNAMICS, INVERSE_DYNAMICS, JOINT, POLICY, VIDEO
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.diffusion.samplers.base import initial_noise

ALL = (JOINT, POLICY, VIDEO, FORWARD_DYNAMICS, INVERSE_DYNAMICS)
CLEAN = 0.02
LEVELS = Levels.same(schedule(8, CLEAN, 80))


def noise(seed=0):
    return drawn((3, 2, 4, 5, 5), (3, 6, 2), 1, seed)


class Watched(FreezableGaussian):
    """Notes what it is asked."""

    def __init__(self):
        super().__init__(noise(1))
        self.pairs, self.shown = [], []

    def __call__(self, x, levels):
        self.pairs.append(levels)
        self.shown.append(x)
        return super().__call__(x, levels)

    def freeze(self, x, levels):
        return lambda now, after: self(Joint(x.video, now.actions), Levels(levels.video, after.actions))


@pytest.mark.parametrize("clocks", ALL)
def test_it_asks_at_the_pairs_that_it_says_and_shows_what_stands_still_as_it_is(clocks):
    denoise, given = Watched(), noise(2)
    found = clocks.draw(denoise, noise(), LEVELS, CLEAN, given)
    said = clocks.asked(LEVELS, CLEAN)
    assert torch.equal(torch.stack([one.video for one in denoise.pairs]), said.video)
    assert torch.equal(torch.stack([one.actions for one in denoise.pairs]), said.actions)
    start = initial_noise(noise(), LEVELS[0])
    for part in ("video", "actions"):
        clock = getattr(clocks, part)
        if clock == "falls":
            assert torch.equal(getattr(said, part), getattr(LEVELS, part)[:-1])
            continue
        still = getattr(given if clock == "given" else start, part)
        assert getattr(said, part).tolist() == pytest.approx([CLEAN if clock == "given" else 80.0] * 8)
        assert all(torch.equal(getattr(x, part), still) for x in (*denoise.shown, found))


@pytest.mark.parametrize("clocks", ALL)
def test_what_falls_arrives_where_it_would_alone(clocks):
    """The parts of the Gaussian do not depend on each other."""
    denoise, given = Watched(), noise(2)
    found = clocks.draw(denoise, noise(), LEVELS, CLEAN, given)
    both = euler.sample(Watched(), initial_noise(noise(), LEVELS[0]), LEVELS)
    for part in ("video", "actions"):
        if getattr(clocks, part) == "falls":
            torch.testing.assert_close(getattr(found, part), getattr(both, part))
