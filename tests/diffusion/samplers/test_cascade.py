"""The video comes to a level, then the actions to zero, on a Gaussian with a closed-form answer."""

from itertools import pairwise
from math import log2

import pytest
import torch
from tests.diffusion.samplers.gaussian import FreezableGaussian, Gaussian, Twice, drawn

from videopolicy.diffusion.edm import ramp, schedule
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import cascade, euler, one_pass

START, STOP, END = 20.0, 0.5, 0.05


def begin() -> Joint:
    return drawn((2, 3, 2, 4, 4), (2, 6, 3), START).map(torch.Tensor.double)


def gaussian(seed: int = 1) -> FreezableGaussian:
    return FreezableGaussian(Joint.randn_like(begin(), torch.Generator().manual_seed(seed)))


def levels(video_steps: int, steps: int) -> Levels:
    """From START, the video to STOP, then the actions to zero."""
    way = ramp(torch.linspace(0, 1, video_steps + 1, dtype=torch.float64), STOP, START)
    actions = schedule(steps, END, START).double()
    video = torch.cat((way, way[-1:].expand(steps - 1), way.new_zeros(1)))
    return Levels(video, torch.cat((actions[:1].expand(video_steps), actions)))


def test_the_head_is_asked_at_the_stop_alone_and_the_video_model_on_the_way_to_it():
    denoise = gaussian()
    cascade.sample(denoise, begin(), levels(3, 5))
    assert denoise.video_asked == pytest.approx(levels(3, 5).video[:3].tolist())
    assert denoise.frozen_at == pytest.approx([STOP])
    named = cascade.asked(levels(3, 5))
    assert len(named) == 5 and named.video.tolist() == pytest.approx([STOP] * 5)
    # The first time it is asked, it is frozen.
    asked = [actions for _, actions in denoise.asked]
    assert asked == pytest.approx([START, *named.actions.tolist()])


def test_the_actions_take_their_own_steps_of_euler():
    denoise, x = gaussian(), begin()
    found = cascade.sample(denoise, x, levels(3, 5)).actions
    alone = euler.sample(denoise, x, Levels.same(schedule(5, END, START).double())).actions
    torch.testing.assert_close(found, alone)


def test_the_video_is_what_is_denoised_where_it_stops():
    denoise, x = gaussian(), begin()
    found = cascade.sample(denoise, x, levels(3, 5)).video
    way = Levels.same(levels(3, 5).video[:4])
    stopped = euler.sample(denoise, x, way)
    torch.testing.assert_close(found, denoise(stopped, way[-1]).video)


@pytest.mark.parametrize("part", ["video", "actions"])
def test_it_is_of_first_order_in_the_steps_of_either_part(part):
    denoise, x = gaussian(), begin()
    if part == "video":
        exact = denoise(denoise.flow(x, START, STOP), Levels.same(torch.tensor(STOP))).video
        found = [cascade.sample(denoise, x, levels(steps, 4)).video for steps in (80, 160, 320)]
    else:
        # Stopped above zero, where the last step is as short as the others.
        exact = denoise.flow(x, START, END).actions
        found = [cascade.sample(denoise, x, levels(2, steps)[:-1]).actions for steps in (80, 160, 320)]
    errors = [float((one - exact).abs().max()) for one in found]
    for coarse, fine in pairwise(errors):
        assert log2(coarse / fine) == pytest.approx(1, abs=0.25)


def test_of_levels_that_fall_together_it_is_one_pass():
    together, x = Levels.same(schedule(6, END, START).double()), begin()
    found, passed = cascade.sample(gaussian(), x, together), one_pass.sample(gaussian(), x, together)
    assert torch.equal(found.video, passed.video) and torch.equal(found.actions, passed.actions)
    assert torch.equal(cascade.asked(together).video, one_pass.asked(together).video)


def test_guided_on_the_way_and_where_it_stops():
    both, x = Twice(gaussian(1), gaussian(2)), begin()
    guided = LinearGuidance(1.0, 2.5).guided(both)
    found = cascade.sample(guided, x, levels(4, 3))
    assert len(both.conditional.video_asked) == len(both.unconditional.video_asked) == 4
    assert len(both.conditional.frozen_at) == len(both.unconditional.frozen_at) == 1
    way = Levels.same(levels(4, 3).video[:5])
    torch.testing.assert_close(found.video, guided(euler.sample(guided, x, way), way[-1]).video)


def test_a_denoiser_that_cannot_freeze_is_refused_by_name():
    with pytest.raises(TypeError, match="cascade needs a denoiser with `freeze`; Gaussian has none"):
        cascade.sample(Gaussian(gaussian().mean), begin(), levels(2, 2))
