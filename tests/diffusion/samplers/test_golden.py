"""The guided Euler sampler against what the authors' published code computes."""

import pytest
import torch
from tests.golden.fill import golden, noise
from tests.golden.standin import StandIn

from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.diffusion.samplers.base import initial_noise


@pytest.mark.parametrize(("name", "steps", "last"), [("euler30", 30, 2.5), ("euler5", 5, 2.5), ("noguide10", 10, 1.0)])
def test_guided_euler(name, steps, last):
    stored, levels = golden("diffusion"), Levels.same(schedule(steps, 0.002, 700))
    network = StandIn(noise("sampler/concat", (25, 4, 8, 8))[None], noise("sampler/context", (25, 1, 16))[None])
    unit = Joint(noise("sampler/video", (25, 4, 8, 8))[None], noise("sampler/action", (32, 7))[None])
    denoise = LinearGuidance(1.0, last).guided(network.and_unconditional())
    reached = euler.sample(denoise, initial_noise(unit, levels[0]), levels)
    torch.testing.assert_close(reached.video[0], stored[f"{name}.video"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(reached.actions[0], stored[f"{name}.action"], rtol=1e-5, atol=1e-5)
