"""What every backbone must keep, as its `EXAMPLE` has it, or with its default configuration."""

import pytest
import torch
from tests.contracts.plugins import example, skip_unless_it_can_run

from videopolicy import registry
from videopolicy.backbones.base import Condition

CHANNELS, WIDTH, TOKENS = 4, 16, 3


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(batch=2, frames=3, side=8):
    latents = draw(batch, frames, CHANNELS, side, side, seed=1)
    condition = Condition(latents, draw(batch, frames, TOKENS, WIDTH, seed=2))
    return draw(batch, frames, CHANNELS, side, side), condition, draw(batch, seed=3)


def kept(features):
    """All that a pass gives."""
    return features.video, *features.taps


def read(backbone, *given):
    """What those who use a backbone read: the video, or the features of one that draws none."""
    features = backbone(*given)
    return features.video if backbone.imagines else features.taps[-1]


@pytest.fixture(params=registry.names("backbones"), scope="module")
def name(request):
    skip_unless_it_can_run("backbones", request.param)
    return request.param


@pytest.fixture(scope="module")
def backbone(name):
    return example("backbones", name).build(CHANNELS, WIDTH).eval()


@pytest.mark.parametrize(("frames", "side"), [(1, 8), (3, 8), (6, 4), (2, 7), (3, 5)])
@torch.no_grad()
def test_shapes_for_any_number_of_frames_and_odd_sizes(backbone, frames, side):
    video, condition, noise = inputs(frames=frames, side=side)
    features = backbone(video, condition, noise)
    assert features.video.shape == video.shape
    assert features.video.dtype == torch.float32
    assert features.video.isfinite().all()
    assert tuple(tap.shape[2] for tap in features.taps) == backbone.tap_channels
    assert all(tap.shape[:2] == (2, frames) and tap.dtype == torch.float32 for tap in features.taps)
    assert backbone.embed(noise).shape == (2, backbone.time_width)
    assert bool(features.video.any()) == backbone.imagines


@torch.no_grad()
def test_each_clip_stands_alone(backbone):
    video, condition, noise = inputs()
    both = backbone(video, condition, noise)
    second = backbone(video[1:], Condition(condition.latents[1:], condition.text[1:]), noise[1:])
    torch.testing.assert_close(both.video[1:], second.video, rtol=1e-4, atol=1e-5)
    for tap, alone in zip(both.taps, second.taps, strict=True):
        torch.testing.assert_close(tap[1:], alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_it_heeds_the_picture_and_the_text_and_what_it_denoises(backbone):
    """A backbone that imagines nothing knows the current images alone: no noisy video, at whatever level."""
    video, condition, noise = inputs()
    before = read(backbone, video, condition, noise)
    changes = {
        "video": (video + 0.3, condition, noise),
        "noise": (video, condition, noise + 0.5),
        "picture": (video, Condition(condition.latents * draw(1, 1, 1, 8, 8, seed=4), condition.text), noise),
        "text": (video, Condition(condition.latents, condition.text.flip(3)), noise),
    }
    heeded = {what for what, changed in changes.items() if (read(backbone, *changed) - before).abs().max() > 1e-6}
    assert heeded == ({"picture", "text", "video", "noise"} if backbone.imagines else {"picture", "text"})


@torch.no_grad()
def test_the_noise_level_is_embedded(backbone):
    noise = draw(2, seed=3)
    assert (backbone.embed(noise) - backbone.embed(noise + 0.5)).abs().max() > 1e-4


@torch.no_grad()
def test_frames_of_a_video_know_of_each_other_and_images_do_not(backbone):
    video, condition, noise = inputs()
    changed, latents = video.clone(), condition.latents.clone()
    changed[:, 0] += 1
    latents[:, 0] *= draw(1, 8, 8, seed=4)
    before, after = backbone(video, condition, noise), backbone(changed, Condition(latents, condition.text), noise)
    moved = [(one - other)[:, 2].abs().max() > 1e-6 for one, other in zip(kept(before), kept(after), strict=True)]
    assert any(moved) == backbone.imagines


@torch.no_grad()
def test_all_dropped_is_the_unconditional_condition(backbone):
    video, condition, noise = inputs()
    everything = torch.ones(2, 3, dtype=torch.bool)
    dropped = read(backbone, video, condition.drop(everything, everything), noise)
    torch.testing.assert_close(dropped, read(backbone, video, condition.unconditional(), noise), rtol=0, atol=0)
    only_text = condition.drop(~everything, everything)
    assert torch.equal(only_text.latents, condition.latents)
    assert not only_text.text.any()


def test_every_tap_sends_gradient_back_unless_detached(backbone):
    features = backbone(*inputs())
    for tap in features.taps:
        gradient = torch.autograd.grad(
            tap.square().mean(), list(backbone.parameters()), allow_unused=True, retain_graph=True
        )
        assert any(part is not None and part.any() for part in gradient)
    detached = features.detach()
    assert not any(tap.requires_grad for tap in detached.taps)
    assert detached.video.requires_grad == backbone.imagines


@torch.no_grad()
def test_a_saved_state_restores_it(name, backbone):
    other = example("backbones", name).build(CHANNELS, WIDTH).eval()
    other.load_state_dict(backbone.state_dict())
    assert all(
        torch.equal(one, two) for one, two in zip(kept(other(*inputs())), kept(backbone(*inputs())), strict=True)
    )


def test_gradients_do_not_depend_on_whether_inner_values_are_computed_again(name):
    plain, again = (example("backbones", name).build(CHANNELS, WIDTH) for _ in range(2))
    again.load_state_dict(plain.state_dict())
    again.checkpoint_gradients()
    for backbone in (plain, again):
        sum(tap.square().mean() for tap in backbone.train()(*inputs()).taps).backward()
    pairs = zip(plain.parameters(), again.parameters(), strict=True)
    for one, other in pairs:
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)
