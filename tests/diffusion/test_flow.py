"""A flow model behind `FlowScaling` is what it is by itself: its guess, its loss, and what Euler's method draws."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.diffusion.edm import Scaling, schedule, weight
from videopolicy.diffusion.flow import FlowScaling, flow_sigma, flow_time
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler

SIGMAS = torch.logspace(-3, 3, 25, dtype=torch.float64)[:, None]
CLEAN, NOISE = torch.randn(2, 1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(noisy, time):
    """Some u(x_t, t)."""
    return torch.sin(2 * noisy + time) - 0.3 * noisy * time


def denoise(x, sigma):
    c = FlowScaling()(sigma)
    return c.skip * x + c.out * network(c.inp * x, c.noise)


def test_the_true_velocity_recovers_the_clean_sample():
    c = FlowScaling()(SIGMAS)
    recovered = c.skip * (CLEAN + SIGMAS * NOISE) + c.out * (NOISE - CLEAN)
    torch.testing.assert_close(recovered, CLEAN.expand(len(SIGMAS), -1), rtol=0, atol=1e-10)


def test_the_network_sees_the_point_between_clean_and_noise():
    c = FlowScaling()(SIGMAS)
    torch.testing.assert_close(c.inp * (CLEAN + SIGMAS * NOISE), (1 - c.noise) * CLEAN + c.noise * NOISE)


def test_the_weighted_loss_is_half_to_all_of_the_flows_own():
    guess = denoise(CLEAN + SIGMAS * NOISE, SIGMAS)
    time = flow_time(SIGMAS)
    own = (network((1 - time) * CLEAN + time * NOISE, time) - (NOISE - CLEAN)) ** 2
    ours = weight(SIGMAS) * (guess - CLEAN) ** 2
    share = (1 + SIGMAS**2) / (1 + SIGMAS) ** 2
    torch.testing.assert_close(ours, share * own)
    assert share.min() >= 0.5 and share.max() < 1


def test_it_is_edms_network_seen_otherwise():
    """The v of EDM that gives the same guess, as a function of what EDM's network is shown."""
    x = CLEAN + SIGMAS * NOISE
    edm, flow = Scaling()(SIGMAS), FlowScaling()(SIGMAS)
    seen = edm.inp * x
    v = (1 - SIGMAS) / (1 + SIGMAS) * seen + (1 + SIGMAS**2).sqrt() * flow.inp * network(flow.inp * x, flow.noise)
    torch.testing.assert_close(edm.skip * x + edm.out * v, denoise(x, SIGMAS))


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_euler_in_sigma_is_euler_in_time(dtype, near):
    sigmas = schedule(8, 0.02, 700).to(dtype)
    noise = NOISE.to(dtype)[:, None, None, None]
    times = flow_time(sigmas)
    x = times[0] * noise
    for now, after in pairwise(times):
        x = x + (after - now) * network(x, now)
    start = Joint(sigmas[0] * noise, torch.zeros(1, 1, 1, dtype=dtype))
    ours = euler.sample(
        lambda sample, levels: Joint(denoise(sample.video, levels.video), sample.actions), start, Levels.same(sigmas)
    )
    torch.testing.assert_close(ours.video, x, rtol=near, atol=near)


@given(st.floats(1e-3, 0.999), st.floats(0.1, 20))
def test_a_shift_multiplies_the_noise_level(time, shift):
    shifted = shift * time / (1 + (shift - 1) * time)
    sigma = flow_sigma(torch.tensor(time, dtype=torch.float64), shift)
    assert float(sigma) == pytest.approx(shift * time / (1 - time))
    assert float(flow_time(sigma)) == pytest.approx(shifted)
