import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videopolicy.diffusion.joint import Joint

COUNTS = st.integers(1, 3)
NUMBERS = st.floats(-8, 8).filter(lambda v: abs(v) > 1e-2)


@st.composite
def joints(draw, count: int = 2):
    """Joints of one random shape, float64."""
    batch, frames, channels, size, steps, width = (draw(COUNTS) for _ in range(6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [Joint(normal(batch, frames, channels, size, size), normal(batch, steps, width)) for _ in range(count)]


def close(a: Joint, b: Joint) -> None:
    torch.testing.assert_close(a.video, b.video)
    torch.testing.assert_close(a.actions, b.actions)


@settings(deadline=None, max_examples=40)
@given(joints(3), NUMBERS)
def test_joints_form_a_vector_space(parts, scale):
    a, b, c = parts
    close(a + b, b + a)
    close((a + b) + c, a + (b + c))
    close((a - b) + b, a)
    close(-a + a, a * 0.0)
    close(scale * (a + b), a * scale + b * scale)
    close(a * scale / scale, +a)


@settings(deadline=None, max_examples=40)
@given(joints(1), NUMBERS)
def test_a_scale_is_the_same_from_either_side_and_in_any_dress(parts, scale):
    (a,) = parts
    tensor = torch.tensor(scale, dtype=torch.float64)
    for same in (scale * a, tensor * a, a * tensor, np.float64(scale) * a, a / (1 / tensor)):
        close(same, a * scale)


@settings(deadline=None, max_examples=40)
@given(joints(2))
def test_one_value_a_sample_scales_each_sample_alone(parts):
    a, b = parts
    scales = b.actions[:, 0, 0].abs() + 0.1
    samples = [a.map(lambda part, i=i: part[i : i + 1]) for i in range(len(scales))]
    close(scales * a, Joint.cat([s * float(v) for s, v in zip(samples, scales, strict=True)]))
    close(a / scales, Joint.cat([s / float(v) for s, v in zip(samples, scales, strict=True)]))


@settings(deadline=None, max_examples=40)
@given(joints(2))
def test_joints_multiply_part_by_part(parts):
    a, b = parts
    close(a * b, Joint(a.video * b.video, a.actions * b.actions))


def test_a_wrong_number_of_samples_is_refused():
    x = Joint(torch.ones(2, 3, 4, 5, 5), torch.ones(2, 6, 7))
    with pytest.raises(RuntimeError):
        x * torch.ones(5)


def test_randn_like_depends_on_its_generator_alone():
    x = Joint(torch.zeros(2, 3, 4, 8, 8, dtype=torch.float64), torch.zeros(2, 32, 7, dtype=torch.float64))
    before = torch.get_rng_state()
    first, again, other = (Joint.randn_like(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.video, again.video)
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)
    assert first.video.dtype == torch.float64
    assert float(first.video.std()) == pytest.approx(1, abs=0.1)
    assert float(first.actions.std()) == pytest.approx(1, abs=0.1)
