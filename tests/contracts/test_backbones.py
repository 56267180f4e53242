"""What every backbone must keep, as its `EXAMPLE` has it, or with its default configuration."""

import copy
from dataclasses import replace

import pytest
import torch
from tests.contracts.plugins import example, plugin, skip_unless_it_can_run, variants

from videopolicy import registry
from videopolicy.backbones.base import Condition

CHANNELS, WIDTH, TOKENS = 4, 16, 3


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(batch=2, frames=3, side=8):
    latents = draw(batch, frames, CHANNELS, side, side, seed=1)
    condition = Condition(latents, draw(batch, TOKENS, WIDTH, seed=2))
    return draw(batch, frames, CHANNELS, side, side), draw(batch, seed=3).exp(), condition


def kept(denoised):
    """All that a pass gives."""
    video, features = denoised
    return video, *features.taps


@pytest.fixture(params=variants("backbones"), scope="module")
def name(request):
    skip_unless_it_can_run("backbones", request.param)
    return request.param


def encodes(name):
    """Whether it has an encoder of the current images; behind the latents stand the pixels of patches of 2."""
    kinds = [kind for kind in vars(registry.module("backbones", plugin(name))).values() if isinstance(kind, type)]
    return any(getattr(kind, "encodes", False) for kind in kinds)


def made(name, beyond=0):
    """With fresh weights, for images of so many channels more than are denoised."""
    config = example("backbones", name)
    if not encodes(name):
        return config.build(CHANNELS, WIDTH, CHANNELS + beyond).eval()
    backbone = config.build(CHANNELS, WIDTH, 4 * CHANNELS).eval()
    backbone.__class__ = encoding(type(backbone))
    return backbone


def encoding(kind):
    """A backbone with an encoder of its own, which is run here before each pass."""

    class Whole(kind):
        def denoise(self, video, sigma, condition):
            return super().denoise(video, sigma, self.encoded(condition))

        def read(self, video, sigma, condition):
            return super().read(video, sigma, self.encoded(condition))

        def encoded(self, condition):
            latents = condition.latents
            whole = torch.cat((latents, latents.repeat(1, 1, 3, 1, 1)), 2) if latents.shape[2] == CHANNELS else latents
            return self.encode_current(replace(condition, latents=whole))

    return Whole


@pytest.fixture(scope="module")
def backbone(name):
    return made(name)


@pytest.fixture(scope="module")
def generates(name):
    """Whether it generates video."""
    return registry.entry("backbones", plugin(name)).generates_video


@pytest.fixture(scope="module")
def read(backbone, generates):
    """What those who use a backbone read: the video, or the features of one that generates none."""

    def read(*given):
        video, features = backbone.denoise(*given)
        return video if generates else features.taps[-1]

    return read


@torch.no_grad()
def test_features_that_are_read_alone_are_those_of_a_whole_pass(backbone):
    for alone, of_whole in zip(backbone.read(*inputs()).taps, backbone.denoise(*inputs())[1].taps, strict=True):
        assert torch.equal(alone, of_whole)


@torch.no_grad()
def test_it_computes_the_same_with_its_weights_channels_last(backbone):
    other = copy.deepcopy(backbone)
    for module in other.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, torch.nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    for part, again in zip(kept(backbone.denoise(*inputs())), kept(other.denoise(*inputs())), strict=True):
        torch.testing.assert_close(again, part, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("frames", "side"), [(1, 8), (3, 8), (6, 4), (2, 7), (3, 5)])
@torch.no_grad()
def test_shapes_for_any_number_of_frames_and_odd_sizes(backbone, frames, side, generates):
    video, sigma, condition = inputs(frames=frames, side=side)
    denoised, features = backbone.denoise(video, sigma, condition)
    assert denoised.shape == video.shape
    assert denoised.dtype == torch.float32
    assert denoised.isfinite().all()
    assert tuple(tap.shape[2] for tap in features.taps) == backbone.tap_channels
    assert all(tap.shape[:2] == (2, frames) and tap.dtype == torch.float32 for tap in features.taps)
    assert backbone.embed(sigma).shape == (2, backbone.time_width)
    assert bool(denoised.any()) == generates


@torch.no_grad()
def test_each_clip_stands_alone(backbone):
    video, sigma, condition = inputs()
    both = kept(backbone.denoise(video, sigma, condition))
    second = kept(backbone.denoise(video[1:], sigma[1:], Condition(condition.latents[1:], condition.text[1:])))
    for part, alone in zip(both, second, strict=True):
        torch.testing.assert_close(part[1:], alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_it_heeds_the_picture_and_the_text_and_what_it_denoises(backbone, read, generates):
    """A backbone that generates no video knows the current images alone: no noisy video, at whatever level."""
    video, sigma, condition = inputs()
    before = read(video, sigma, condition)
    changes = {
        "video": (video + 0.3, sigma, condition),
        "noise": (video, sigma * 1.7, condition),
        "picture": (video, sigma, Condition(condition.latents * draw(1, 1, 1, 8, 8, seed=4), condition.text)),
        "text": (video, sigma, Condition(condition.latents, condition.text.flip(2))),
    }
    heeded = {what for what, changed in changes.items() if (read(*changed) - before).abs().max() > 1e-6}
    assert heeded == ({"picture", "text", "video", "noise"} if generates else {"picture", "text"})


@torch.no_grad()
def test_the_noise_level_is_embedded(backbone):
    sigma = draw(2, seed=3).exp()
    assert (backbone.embed(sigma) - backbone.embed(sigma * 1.7)).abs().max() > 1e-4


@torch.no_grad()
def test_frames_of_a_video_know_of_each_other_and_images_do_not(backbone, generates):
    video, sigma, condition = inputs()
    changed, latents = video.clone(), condition.latents.clone()
    changed[:, 0] += 1
    latents[:, 0] *= draw(1, 8, 8, seed=4)
    before = kept(backbone.denoise(video, sigma, condition))
    after = kept(backbone.denoise(changed, sigma, Condition(latents, condition.text)))
    moved = [(one - other)[:, 2].abs().max() > 1e-6 for one, other in zip(before, after, strict=True)]
    assert any(moved) == generates


@torch.no_grad()
def test_all_dropped_is_the_unconditional_condition(read):
    video, sigma, condition = inputs()
    unconditional = read(video, sigma, condition.unconditional())
    for groups in (1, 3):
        everything = torch.ones(2, groups, dtype=torch.bool)
        dropped = condition.drop(everything, everything)
        torch.testing.assert_close(read(video, sigma, dropped), unconditional, rtol=0, atol=0)
        only_text = condition.drop(~everything, everything)
        assert torch.equal(only_text.latents, condition.latents)
        assert only_text.text.shape == condition.text.shape, "what is handed over holds the text once a clip"


@torch.no_grad()
def test_dropping_whole_clips_is_dropping_every_frame_of_them(read):
    video, sigma, condition = inputs()
    clip = torch.tensor([[True], [False]])
    whole, each = (condition.drop(marks, marks) for marks in (clip, clip.expand(2, 3)))
    torch.testing.assert_close(read(video, sigma, whole), read(video, sigma, each))


@torch.no_grad()
def test_nearly_clean_video_is_left_as_it_is_in_any_precision(backbone, generates):
    """Parameterisation is computed in float32 around the network: at sigma near 0 nothing of its precision is lost."""
    video, _, condition = inputs()
    half = copy.deepcopy(backbone).bfloat16()
    denoised, features = half.denoise(video, torch.full((2,), 1e-4), condition)
    assert denoised.dtype == torch.float32 and features.taps[0].dtype == torch.bfloat16
    if generates:
        torch.testing.assert_close(denoised, video, rtol=0, atol=1e-3)


def test_what_it_says_of_its_modules_is_so(backbone):
    """`--compile`, FSDP and LoRA go by these names."""
    classes = {type(module).__name__ for module in backbone.modules()}
    assert set(backbone.repeated_blocks) <= classes
    for target in backbone.lora_targets:
        layers = [module for name, module in backbone.named_modules() if name.endswith(target)]
        assert layers and all(isinstance(layer, torch.nn.Linear) for layer in layers)


def test_every_tap_sends_gradient_back_unless_detached(backbone, generates):
    video, features = backbone.denoise(*inputs())
    for tap in features.taps:
        gradient = torch.autograd.grad(
            tap.square().mean(), list(backbone.parameters()), allow_unused=True, retain_graph=True
        )
        assert any(part is not None and part.any() for part in gradient)
    detached = features.through(0.0)
    assert not any(tap.requires_grad for tap in detached.taps)
    assert video.requires_grad == generates


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_the_gradient_goes_on_through_the_same_taps(backbone, share):
    _, features = backbone.denoise(*inputs())
    passed = features.through(share)
    for tap, again in zip(features.taps, passed.taps, strict=True):
        assert torch.equal(tap, again)
        whole, part = (
            torch.autograd.grad(seen.square().mean(), list(backbone.parameters()), allow_unused=True, retain_graph=True)
            for seen in (tap, again)
        )
        for one, other in zip(whole, part, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(share * one, other)


@torch.no_grad()
def test_images_may_be_given_in_more_channels_than_are_denoised(name, generates):
    video, sigma, condition = inputs()
    beyond = 3 * CHANNELS if encodes(name) else 5
    more, wide = draw(2, 3, CHANNELS + beyond, 8, 8, seed=7), made(name, beyond)
    denoised, features = wide.denoise(video, sigma, Condition(more, condition.text))
    assert denoised.shape == video.shape
    changed = more.clone()
    changed[:, :, -1] += 1
    other = wide.denoise(video, sigma, Condition(changed, condition.text))
    assert not torch.equal(other[1].taps[-1], features.taps[-1])
    assert not generates or not torch.equal(other[0], denoised)


@torch.no_grad()
def test_a_saved_state_restores_it(name, backbone):
    other = made(name)
    other.load_state_dict(backbone.state_dict())
    pairs = zip(kept(other.denoise(*inputs())), kept(backbone.denoise(*inputs())), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_gradients_do_not_depend_on_gradient_checkpointing(name):
    plain, again = (made(name) for _ in range(2))
    again.load_state_dict(plain.state_dict())
    again.enable_gradient_checkpointing()
    for backbone in (plain, again):
        sum(tap.square().mean() for tap in backbone.train().denoise(*inputs())[1].taps).backward()
    pairs = zip(plain.parameters(), again.parameters(), strict=True)
    for one, other in pairs:
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)
