"""What every file in `videopolicy/samplers` must keep."""

import math

import pytest
import torch

from videopolicy import registry
from videopolicy.diffusion.joint import Joint
from videopolicy.samplers.base import initial_noise

SAMPLERS = registry.names("samplers")
VIDEO, ACTIONS = (3, 2, 4, 4, 4), (3, 8, 2)
SIGMA_MAX = 80.0


class Gaussian:
    """The best denoiser of data that is N(mean, deviation²), whose ODE has a closed-form answer."""

    def __init__(self, mean: float, deviation: float):
        self.mean, self.variance = mean, deviation**2

    def __call__(self, x, sigma):
        noise = sigma**2
        return (x * self.variance + x.map(lambda part: torch.full_like(part, self.mean)) * noise) / (
            self.variance + noise
        )

    def freeze(self, x, sigma):
        video = self(x, sigma).video
        return lambda x, sigma: Joint(video, self(x, sigma).actions)

    def exact(self, x, sigma_max):
        """Where the ODE arrives at sigma 0."""
        shrink = math.sqrt(self.variance / (self.variance + sigma_max**2))
        return x.map(lambda part: self.mean + (part - self.mean) * shrink)


def noise(seed=0):
    return initial_noise(VIDEO, ACTIONS, SIGMA_MAX, torch.Generator().manual_seed(seed))


def schedule(steps):
    """Karras' rho-7 schedule, written out here so that the contract hangs on nothing but the sampler."""
    top, bottom = SIGMA_MAX ** (1 / 7), 0.02 ** (1 / 7)
    return torch.cat([torch.linspace(top, bottom, steps) ** 7, torch.zeros(1)])


@pytest.fixture(params=SAMPLERS)
def sample(request):
    return registry.entry("samplers", request.param)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_denoiser_that_knows_the_answer_is_believed(sample, steps):
    end = sample(Gaussian(mean=0.5, deviation=0.0), noise(), schedule(steps))
    assert end.video.shape == VIDEO
    assert end.actions.shape == ACTIONS
    torch.testing.assert_close(end.video, torch.full(VIDEO, 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(end.actions, torch.full(ACTIONS, 0.5), atol=1e-3, rtol=0)


def test_many_steps_find_the_answer_of_the_ode(sample):
    data, start = Gaussian(mean=0.2, deviation=0.5), noise()
    end = sample(data, start, schedule(128))
    torch.testing.assert_close(end.actions, data.exact(start, SIGMA_MAX).actions, atol=0.05, rtol=0)


def test_a_sample_does_not_depend_on_its_neighbours(sample):
    data, start = Gaussian(mean=0.2, deviation=0.5), noise()
    together = sample(data, start, schedule(5))
    alone = sample(data, start.map(lambda part: part[1:2]), schedule(5))
    torch.testing.assert_close(alone.video, together.video[1:2])
    torch.testing.assert_close(alone.actions, together.actions[1:2])


def test_the_noise_is_left_as_it_was(sample):
    start = noise()
    sample(Gaussian(mean=0.2, deviation=0.5), start, schedule(5))
    assert torch.equal(start.video, noise().video)
    assert torch.equal(start.actions, noise().actions)
