from itertools import pairwise

import pytest
import torch

from videopolicy.diffusion.distillation import Path, lesson
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise import starts
from videopolicy.diffusion.samplers import euler
from videopolicy.models.sampling import Sampling

LOW, HIGH = 0.02, 10.0
# Standard deviations of the data: of the video and of the actions.
SPREAD = Joint(torch.tensor(0.5), torch.tensor(2.0))


def path(segments=1, strides=16):
    return Path(LOW, HIGH, segments, strides)


def gaussian(x, levels):
    """The best guess of centred Gaussian data: s^2 / (s^2 + sigma^2) x."""
    share = Levels(*(s**2 / (s**2 + sigma**2) for s, sigma in zip(parts(SPREAD), parts(levels), strict=True)))
    return x * share


def arrives(x, now, end):
    """Where the ODE leads: x sqrt((s^2 + end^2) / (s^2 + now^2))."""
    three = zip(parts(SPREAD), parts(now), parts(end), strict=True)
    return x * Levels(*(((s**2 + last**2) / (s**2 + sigma**2)).sqrt() for s, sigma, last in three))


def parts(of):
    return of.video, of.actions


def drawn(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    blank = Joint(torch.zeros(batch, 2, 3, 4, 4), torch.zeros(batch, 5, 2))
    return Joint.randn_like(blank, generator), Joint.randn_like(blank, generator)


@pytest.mark.parametrize("segments", [1, 2, 4])
def test_of_gaussian_data_the_answer_leads_to_where_the_ode_does(segments):
    """The student's one Euler step with the answer ends in the closed form; the error falls with the strides."""
    law = starts.Config(segments, width=0.9, sigma_min=LOW, sigma_max=HIGH)
    levels, (clean, noise) = law.sample(32, torch.Generator().manual_seed(1)), drawn(32)
    errors = []
    for strides in (20, 40):
        cut = path(segments, strides)
        x, answer = lesson(gaussian, clean, noise, levels, cut)
        end = levels.map(cut.walk)[-1]
        schedule = Levels(*(torch.stack(pair) for pair in zip(parts(levels), parts(end), strict=True)))
        error = euler.sample(lambda x, now, answer=answer: answer, x, schedule) - arrives(x, levels, end)
        errors.append(max(part.abs().max() for part in parts(error)))
    assert errors[1] < 0.2
    assert 0.4 < errors[1] / errors[0] < 0.6


@pytest.mark.parametrize("segments", [1, 2, 3, 4])
def test_a_walk_begins_at_its_level_falls_and_ends_where_the_student_is_asked_next(segments):
    asked = Sampling(sigma_min=LOW, sigma_max=HIGH).distilled(segments).levels().video
    for strides in (1, 5):
        for start, end in pairwise(asked):
            between = start + (end - start) * torch.tensor([0.0, 0.1, 0.5])
            walk = path(segments, strides).walk(between)
            assert walk.shape == (strides + 1, 3) and torch.equal(walk[0], between)
            assert (walk[1:] < walk[:-1]).all() or strides == 1
            torch.testing.assert_close(walk[-1], end.expand(3), rtol=1e-5, atol=0)


def test_one_stride_has_nothing_to_teach():
    """Where the teacher takes the student's own step, the answer is the teacher's guess: f(x, end) = x in between."""
    levels, (clean, noise) = Levels.same(torch.tensor([HIGH, 3.0, 0.5])), drawn(3)
    x, answer = lesson(gaussian, clean, noise, levels, path(strides=1))
    for part, guess in zip(parts(answer), parts(gaussian(x, levels)), strict=True):
        torch.testing.assert_close(part, guess)


def test_walks_of_the_first_segment_begin_with_pure_noise_as_sampling_does():
    levels, (clean, noise) = Levels.same(torch.tensor([HIGH, 5.0, 0.5])), drawn(3)
    x, _ = lesson(gaussian, clean, noise, levels, path(segments=2))
    for part, normal, shown in zip(parts(x), parts(noise), parts(clean), strict=True):
        for row, sigma in ((0, HIGH), (1, 5.0)):
            torch.testing.assert_close(part[row], normal[row] * (1 + sigma**2) ** 0.5)
        torch.testing.assert_close(part[2], shown[2] + 0.5 * normal[2])


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_law_covers_the_students_own_steps_and_not_more_of_them(steps):
    law = starts.Config(steps, sigma_min=LOW, sigma_max=HIGH)
    sampling = Sampling(sigma_min=LOW, sigma_max=HIGH)
    assert [law.covers(sampling.distilled(other).asked()) for other in (1, 2, 4)] == [
        other <= steps for other in (1, 2, 4)
    ]
    assert not law.covers(Levels.same(torch.tensor([2 * HIGH]))) and not law.covers(Levels.same(torch.tensor([0.01])))
