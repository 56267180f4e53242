"""What every head must keep, as its `EXAMPLE` has it, or with its default configuration."""

import pytest
import torch
from tests.contracts.plugins import example, skip_unless_it_can_run

from videopolicy import registry

TAPS, TIME, STEPS, FRAMES = (8, 12, 4), 24, 32, 3


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def taps(batch=2, views=1, frames=FRAMES):
    return tuple(draw(batch, views, frames, channels, 8 >> i, 8 >> i, seed=i) for i, channels in enumerate(TAPS))


@pytest.fixture(params=registry.names("heads"), scope="module")
def name(request):
    skip_unless_it_can_run("heads", request.param)
    return request.param


@pytest.fixture(scope="module")
def head(name):
    return built(name)


def built(name, views=1, width=7):
    return example("heads", name).build(TAPS, TIME, views, FRAMES, width).eval()


@pytest.mark.parametrize("width", [1, 7, 14])
@pytest.mark.parametrize("views", [1, 2])
@torch.no_grad()
def test_shapes_for_any_number_of_views_and_action_width(name, views, width):
    head, time = built(name, views, width), draw(2, TIME)
    vector = head.adapt(taps(views=views), time)
    assert vector.shape == (2, head.width)
    assert head(draw(2, STEPS, width), vector, time).shape == (2, STEPS, width)


@torch.no_grad()
def test_it_heeds_the_features_the_noise_level_and_the_actions(head):
    actions, time = draw(2, STEPS, 7), draw(2, TIME)
    vector = head.adapt(taps(), time)
    before = head(actions, vector, time)
    assert before.isfinite().all()
    assert not torch.allclose(head(actions, vector + 0.3, time), before, atol=1e-5)
    assert not torch.allclose(head(actions, vector, time.flip(1)), before, atol=1e-5)
    assert not torch.allclose(head(actions.flip(1), vector, time), before, atol=1e-5)
    assert not torch.allclose(head(actions.flip(1), vector, time).flip(1), before, atol=1e-5), "blind to order"


@torch.no_grad()
def test_the_order_of_frames_and_of_views_changes_the_vector(name):
    head, time = built(name, views=2), draw(2, TIME)
    given = taps(views=2)
    before = head.adapt(given, time)
    for axis in (1, 2):
        moved = head.adapt(tuple(tap.flip(axis) for tap in given), time)
        assert not torch.allclose(moved, before, atol=1e-5)


@torch.no_grad()
def test_each_clip_stands_alone(head):
    actions, time = draw(2, STEPS, 7), draw(2, TIME)
    vector = head.adapt(taps(), time)
    alone = head.adapt(tuple(tap[1:] for tap in taps()), time[1:])
    torch.testing.assert_close(vector[1:], alone, rtol=1e-4, atol=1e-5)
    both = head(actions, vector, time)
    torch.testing.assert_close(both[1:], head(actions[1:], vector[1:], time[1:]), rtol=1e-4, atol=1e-5)


def test_gradient_reaches_every_weight_and_the_taps(head):
    given = tuple(tap.requires_grad_() for tap in taps())
    time = draw(2, TIME)
    head(draw(2, STEPS, 7), head.adapt(given, time), time).square().mean().backward()
    unreached = [name for name, weight in head.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not unreached
    assert all(tap.grad.any() for tap in given)


@torch.no_grad()
def test_a_saved_state_restores_it(name, head):
    other = built(name)
    other.load_state_dict(head.state_dict())
    actions, time = draw(2, STEPS, 7), draw(2, TIME)
    first, second = (h(actions, h.adapt(taps(), time), time) for h in (head, other))
    assert torch.equal(first, second)
