import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.golden.fill import golden

from videopolicy.diffusion.edm import Scaling, schedule, weight

SIGMAS = torch.logspace(-3, 3, 25, dtype=torch.float64)


@pytest.mark.parametrize("steps", [5, 10, 30])
def test_golden_schedule(steps):
    stored = golden("diffusion")[f"sigmas.{steps}"]
    torch.testing.assert_close(schedule(steps, 0.002, 700), stored, rtol=1e-5, atol=0)


@given(st.integers(2, 60), st.floats(1e-3, 0.1), st.floats(1, 1000), st.floats(1, 10))
def test_a_schedule_falls_between_its_ends(steps, low, high, rho):
    sigmas = schedule(steps, low, high, rho)
    assert len(sigmas) == steps + 1
    assert (sigmas.diff() < 0).all()
    assert sigmas[[0, -2, -1]].tolist() == pytest.approx([high, low, 0], rel=1e-5)


def test_a_schedule_of_one_step_goes_straight_down():
    assert schedule(1, 0.02, 80).tolist() == pytest.approx([80, 0])


def test_rho_one_is_even():
    torch.testing.assert_close(schedule(5, 1, 5, rho=1), torch.tensor([5.0, 4, 3, 2, 1, 0]))


def test_v_prediction_recovers_the_clean_sample():
    clean, noise = torch.randn(2, 1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = SIGMAS[:, None]
    c = Scaling()(sigma)
    noisy, v = clean + sigma * noise, (noise - sigma * clean) / (sigma**2 + 1).sqrt()
    torch.testing.assert_close(c.skip * noisy + c.out * v, clean.expand(len(SIGMAS), -1), rtol=0, atol=1e-8)


def test_the_network_sees_and_gives_unit_variance_at_every_level():
    clean, noise = torch.randn(2, 1, 40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = SIGMAS[:, None]
    c = Scaling()(sigma)
    noisy = clean + sigma * noise
    for part in (c.inp * noisy, (clean - c.skip * noisy) / c.out):
        torch.testing.assert_close(part.std(dim=1), torch.ones_like(SIGMAS), rtol=0, atol=0.02)


def test_an_error_of_the_network_weighs_the_same_at_every_level():
    torch.testing.assert_close(weight(SIGMAS) * Scaling()(SIGMAS).out ** 2, torch.ones_like(SIGMAS))


def test_noise_conditioning_is_a_quarter_of_the_logarithm():
    torch.testing.assert_close((4 * Scaling()(SIGMAS).noise).exp(), SIGMAS)
