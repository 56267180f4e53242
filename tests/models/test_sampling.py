from dataclasses import replace

import pytest
import torch
from tests.diffusion.samplers.gaussian import FreezableGaussian, drawn

from videopolicy import registry
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.held import Held
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise import pinned, starts
from videopolicy.diffusion.samplers import euler, one_pass
from videopolicy.diffusion.samplers.base import initial_noise
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling


def gaussian(x):
    return FreezableGaussian(Joint.randn_like(x, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(("steps", "video_steps"), [(6, 1), (6, 2), (7, 3), (5, 5)])
def test_the_video_has_as_many_levels_of_its_own_and_ends_clean_with_the_actions(steps, video_steps):
    levels = Sampling(steps=steps, video_steps=video_steps).levels()
    assert levels.video.unique().numel() == video_steps + 1
    assert levels.actions.unique().numel() == steps + 1
    assert (levels.video.diff() <= 0).all()
    assert levels.video[0] == levels.actions[0] == 80
    assert levels.video[-1] == levels.actions[-1] == 0
    # Each of the video's own levels is one of the actions', which then fall below it.
    assert set(levels.video.tolist()) <= set(levels.actions.tolist())
    assert (levels.video >= levels.actions).all()


@pytest.mark.parametrize(("steps", "video_steps"), [(6, 1), (6, 2), (7, 3)])
def test_the_video_model_runs_once_a_level_of_the_video(steps, video_steps):
    x = drawn((2, 3, 2, 4, 4), (2, 6, 3), 80)
    denoise, levels = gaussian(x), Sampling(steps=steps, video_steps=video_steps).levels()
    reached = euler.sample(Held(denoise), x, levels)
    assert len(denoise.frozen_at) == video_steps
    # Of a denoiser whose parts do not heed each other, each part goes its own way.
    alone = Levels.same(levels.video.unique().flip(0))
    torch.testing.assert_close(reached.video, euler.sample(denoise, x, alone).video, rtol=0, atol=1e-4)
    both = Sampling(steps=steps).levels()
    torch.testing.assert_close(reached.actions, euler.sample(denoise, x, both).actions, rtol=0, atol=1e-4)


def test_with_a_single_level_of_the_video_it_is_one_pass():
    x = drawn((2, 3, 2, 4, 4), (2, 6, 3), 80)
    held = euler.sample(Held(gaussian(x)), x, Sampling(steps=6, video_steps=1).levels())
    passed = one_pass.sample(gaussian(x), x, Sampling(steps=6).levels())
    torch.testing.assert_close(held.video, passed.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(held.actions, passed.actions, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 2, "video_steps": 3}, "fewer than the actions"),
        ({"steps": 4, "video_steps": 2, "sampler": "heun"}, "'euler', not 'heun'"),
        ({"video_steps": 0}, "video_steps"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        Sampling(**changes)


def test_what_is_none_stays():
    own = Sampling("heun", steps=5)
    assert own.changed(sampler=None, steps=3) == Sampling("heun", steps=3)


@pytest.mark.parametrize(
    ("sampling", "passes"),
    [
        (Sampling("euler", 5), (5, 5)),
        (Sampling("dpmpp", 5), (5, 5)),
        (Sampling("heun", 5), (9, 9)),
        (Sampling("one_pass", 5), (1, 5)),
        (Sampling("euler", 6, video_steps=2), (2, 6)),
        (Sampling("euler", 5, guidance=LinearGuidance(1.0, 2.5)), (10, 10)),
    ],
)
def test_passes_are_what_a_plan_asks_for(sampling, passes):
    assert sampling.passes() == passes


def test_it_says_in_words_what_it_is():
    assert str(Sampling("one_pass", 3)) == "one_pass 3"
    assert (
        str(Sampling(steps=8, video_steps=2, guidance=LinearGuidance(1.0, 2.5))) == "euler 8, video 2, guidance 1-2.5"
    )
    assert str(Sampling(steps=8, reuse=3, warm_start=2.5)) == "euler 8, reuse 3, warm 2.5"


def test_a_warm_start_begins_at_the_first_level_that_is_not_above_it():
    sampling = Sampling(steps=10, warm_start=2.0)
    cold, warm = sampling.levels(), sampling.levels(warm=True)
    assert len(cold) == 11 and cold.video[-len(warm) - 1] > 2.0 >= warm.video[0]
    assert torch.equal(warm.video, cold.video[-len(warm) :]) and torch.equal(warm.actions, cold.actions[-len(warm) :])
    assert sampling.passes() == (len(warm) - 1, len(warm) - 1)


def test_a_warm_start_below_every_level_takes_the_last_one_above_zero():
    assert Sampling(steps=3, sigma_min=0.5, warm_start=0.1).levels(warm=True).video.tolist() == [0.5, 0]


def test_from_the_truth_a_warm_start_arrives_where_the_ode_from_there_does():
    clean = drawn((2, 3, 2, 4, 4), (2, 6, 3), 0)
    noise, denoise = drawn((2, 3, 2, 4, 4), (2, 6, 3), 1), gaussian(clean)
    sampling = Sampling(steps=12, warm_start=3.0)
    levels = sampling.levels(warm=True)
    found = sampling.draw(denoise, noise, clean)
    assert torch.equal(found.actions, euler.sample(denoise, clean + noise * levels[0], levels).actions)
    assert not torch.equal(found.actions, sampling.draw(denoise, noise).actions)


CASCADE = Sampling("cascade", steps=5, video_steps=3, video_until=0.667, sigma_max=20.0)


def test_the_video_comes_to_its_stop_while_the_actions_wait_and_stays_until_they_are_done():
    levels = CASCADE.levels()
    assert len(levels) == 3 + 5 + 1
    assert levels.actions.tolist()[3:] == Sampling(steps=5, sigma_max=20.0).levels().actions.tolist()
    assert set(levels.actions[:4].tolist()) == {20.0}
    assert levels.video[0] == 20 and (levels.video[:4].diff() < 0).all()
    assert levels.video[3:-1].tolist() == pytest.approx([0.667] * 5)
    assert levels.video[-1] == levels.actions[-1] == 0


def test_where_no_number_is_given_the_video_takes_as_many_steps_as_the_actions():
    assert replace(CASCADE, video_steps=None).passes() == (5 + 1, 5)
    assert replace(CASCADE, video_steps=12).passes() == (12 + 1, 5)
    assert replace(CASCADE, guidance=LinearGuidance(1.0, 2.5)).passes() == (8, 10)


def test_a_model_that_does_not_look_once_runs_whole_at_every_step_of_its_actions():
    assert replace(CASCADE, video_steps=12).passes(looks_once=False) == (12 + 5, 5)
    assert Sampling("one_pass", steps=10).passes(looks_once=False) == (10, 10)


def test_the_head_reads_the_video_where_it_stops_and_there_alone():
    assert CASCADE.asked().video.tolist() == pytest.approx([0.667] * 5)
    assert CASCADE.asked().actions.tolist() == Sampling(steps=5, sigma_max=20.0).levels().actions[:-1].tolist()


def test_from_a_level_just_below_the_first_a_cascade_is_one_pass():
    x = drawn((2, 3, 2, 4, 4), (2, 6, 3), 1)
    near = replace(CASCADE, video_until=19.999, video_steps=1)
    found, passed = near.draw(gaussian(x), x), Sampling("one_pass", 5, sigma_max=20.0).draw(gaussian(x), x)
    torch.testing.assert_close(found.video, passed.video, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.actions, passed.actions)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "euler", "video_until": 1.0}, "for sampler 'cascade', not 'euler'"),
        ({"sampler": "cascade", "video_until": 80.0}, "begins at 80"),
        ({"sampler": "cascade", "video_steps": 3}, "--video-until"),
        ({"sampler": "cascade", "video_until": 1.0, "warm_start": 2.0}, "warm start"),
        ({"sampler": "cascade", "video_until": -1.0}, "video_until"),
    ],
)
def test_a_stop_that_cannot_be_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        Sampling(**changes)


def test_another_sampler_leaves_behind_what_is_not_for_it():
    assert CASCADE.changed(sampler="one_pass") == Sampling("one_pass", 5, sigma_max=20.0)
    assert CASCADE.changed(sampler="euler", video_steps=2) == Sampling("euler", 5, sigma_max=20.0, video_steps=2)
    assert CASCADE.changed(sampler="cascade", steps=2) == replace(CASCADE, steps=2)
    assert Sampling(steps=4, video_steps=2).changed(sampler="heun") == Sampling("heun", 4)


def test_it_says_where_the_video_stops():
    assert str(CASCADE) == "cascade 5, video 3, until 0.667"


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp"])
def test_a_last_clean_denoise_from_a_level_above_zero_is_a_higher_last_level(sampler):
    """Cosmos Policy's: from 80 to 4 in steps, and then what the denoiser answers there."""
    sampling = Sampling(sampler, steps=5, sigma_max=80.0, sigma_min=4.0)
    levels = sampling.levels()
    assert levels.video.tolist()[0] == pytest.approx(80) and levels.video.tolist()[-2:] == pytest.approx([4, 0])
    x = drawn((2, 3, 2, 4, 4), (2, 6, 3), 0)
    whole = sampling.draw(gaussian(x), x)
    stopped = registry.entry("samplers", sampler)(gaussian(x), initial_noise(x, levels[0]), levels[:-1])
    clean = gaussian(x)(stopped, levels[-2])
    torch.testing.assert_close(whole.video, clean.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(whole.actions, clean.actions, rtol=0, atol=1e-4)


def test_a_student_of_one_step_keeps_the_level_that_its_teacher_ends_at():
    """What is given to it is shown there, and more steps than it learnt are levels that fall."""
    own = Sampling(steps=30, sigma_max=10.0, sigma_min=0.05)
    student = own.distilled(1)
    assert student == Sampling(steps=1, sigma_max=10.0, sigma_min=0.05)
    law = starts.Config(1, sigma_min=0.05, sigma_max=10.0)
    assert student.warnings(law) == () and len(student.changed(steps=3).warnings(law)) == 1
    assert 0.05 < own.distilled(2).sigma_min < 10.0


@pytest.mark.parametrize(("sigma_min", "clean"), [(0.002, 0.002), (0.02, 0.02), (4.0, 0.02)])
def test_what_is_given_is_shown_clean_whatever_the_last_level(sigma_min, clean):
    assert Sampling(steps=5, sigma_min=sigma_min).clean == clean


def test_a_warm_start_is_asked_about_too():
    sampling = Sampling("one_pass", steps=10, sigma_max=160.0)
    law = pinned.Config(160.0)
    assert sampling.warnings(law) == ()
    assert len(sampling.changed(warm_start=2.0).warnings(law)) == 1


def test_inpainting_in_one_step_is_pointed_out():
    assert "in one it changes nothing" in Sampling(inpaint=5.0).warnings(None)[0]
    assert Sampling(steps=4, inpaint=5.0).warnings(None) == ()
