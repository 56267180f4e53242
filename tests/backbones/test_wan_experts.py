"""Two networks, each for noise levels of its own, and current images on channels: diffusers' own, clip by clip."""

from dataclasses import replace

import pytest
import torch
from tests.backbones.test_wan import CHANNELS, PATCHED, SIDE, TOKENS, WIDTH, draw

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.flow import flow_time

GREY = 2
EXPERTS = replace(PATCHED, boundary=0.9)
CHANNELED = replace(EXPERTS, image="channels", grey=GREY)
# One clip below the boundary, two above it, of which one nearly at it.
LEVELS = torch.tensor([20.0, 0.3, 9.001])


def made(config, views=1):
    torch.manual_seed(0)
    backbone = config.build(CHANNELS, WIDTH).eval()
    backbone.arrange(views, views * config.draws_current, SIDE)
    return backbone


def inputs(config, views=1, clips=3, frames=GREY):
    """Flat frames, levels, and what they are denoised given; the latents of an image stand behind each other."""
    shown = config.shown_channels(CHANNELS)
    latents = draw(clips, views, shown, SIDE, SIDE, seed=1)
    lead = latents if config.draws_current else latents[:, :0]
    each = torch.cat((lead, latents.repeat_interleave(frames, 1)), 1)
    video = draw(clips, each.shape[1], CHANNELS, SIDE, SIDE)
    return video, LEVELS[:clips], Condition(each, draw(clips, TOKENS, WIDTH, seed=2))


def each_alone(backbone, video, sigma, condition):
    """What the networks themselves give for each clip, by its level."""
    nets = [backbone.net if time >= 0.9 else backbone.second for time in flow_time(sigma)]
    assert [net is backbone.net for net in nets] == [True, False, True]
    for index, net in enumerate(nets):
        alone = made(replace(backbone.shape, boundary=None), backbone._layout.views)
        alone.net.load_state_dict(net.state_dict())
        rows = slice(index, index + 1)
        yield alone.denoise(video[rows], sigma[rows], condition.map(lambda part, rows=rows: part[rows]))


@pytest.mark.parametrize("config", [EXPERTS, CHANNELED], ids=["frame", "channels"])
@torch.no_grad()
def test_each_clip_is_denoised_by_the_network_of_its_level(config):
    backbone, given = made(config), inputs(config)
    guess, features = backbone.denoise(*given)
    alone = list(each_alone(backbone, *given))
    torch.testing.assert_close(guess, torch.cat([one for one, _ in alone]), rtol=1e-4, atol=1e-5)
    for index, tap in enumerate(features.taps):
        torch.testing.assert_close(tap, torch.cat([other.taps[index] for _, other in alone]), rtol=1e-4, atol=1e-5)
    for index, tap in enumerate(backbone.read(*given).taps):
        torch.testing.assert_close(tap, features.taps[index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("how", "views"), [("width", 1), ("width", 3), ("time", 3)])
@torch.no_grad()
def test_the_image_on_channels_is_marked_beside_noisy_frames_of_one_time(how, views):
    from diffusers import WanTransformer3DModel

    backbone = made(replace(CHANNELED, views=how), views)
    video, _, condition = inputs(CHANNELED, views)
    sigma = torch.full((3,), 20.0)
    net = WanTransformer3DModel.from_config(backbone.net.config).eval()
    net.load_state_dict(backbone.net.state_dict())
    scaled = video / 21
    # Of each view: the current image, and the future.
    noisy = torch.cat((scaled[:, :views, None], scaled[:, views:].unflatten(1, (views, GREY))), 2)
    image = condition.latents[:, :views].unflatten(2, (1 + GREY, CHANNELS))
    marks = torch.zeros(3, views, 1 + GREY, 4, SIDE, SIDE)
    marks[:, :, 0] = 1
    seen = torch.cat((noisy, marks, image), 3)
    if how == "width":
        whole = torch.cat([seen[:, view] for view in range(views)], 4)
    else:
        whole = torch.cat((seen[:, :, 0], seen[:, :, 1:].flatten(1, 2)), 1)
    time = flow_time(sigma)
    velocity = net(whole.transpose(1, 2), 1000 * time, condition.text).sample.transpose(1, 2)
    if how == "width":
        each = torch.stack(velocity.split(SIDE, 4), 1)
        velocity = torch.cat((each[:, :, 0], each[:, :, 1:].flatten(1, 2)), 1)
    guess = scaled - time[0] * velocity
    torch.testing.assert_close(backbone.denoise(video, sigma, condition)[0], guess, rtol=1e-4, atol=1e-5)


def counted(backbone):
    """The network and the number of each block that runs, from now on."""
    ran = []
    for number, net in enumerate(backbone.experts):
        for index, block in enumerate(net.blocks):
            block.register_forward_hook(lambda *_, at=(number, index): ran.append(at))
    return ran


@torch.no_grad()
def test_a_look_at_high_noise_runs_the_first_network_up_to_the_last_tap():
    config = replace(CHANNELED, taps=(1, 0))
    backbone = made(config)
    video, _, condition = inputs(config)
    ran = counted(backbone)
    backbone.read(video, torch.full((3,), 80.0), condition)
    assert ran == [(0, 0), (0, 1)]
    ran.clear()
    backbone.read(video, torch.full((3,), 8.9), condition)
    assert ran == [(1, 0), (1, 1)]


def test_a_network_without_clips_gets_a_gradient_of_zeros_where_it_learns():
    backbone = made(CHANNELED)
    video, _, condition = inputs(CHANNELED)
    high = torch.full((3,), 80.0)
    backbone.denoise(video, high, condition)[0].square().mean().backward()
    grads = [weight.grad for weight in backbone.second.blocks.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)
    assert any(weight.grad.any() for weight in backbone.net.parameters() if weight.grad is not None)
    backbone.requires_grad_(False)
    ran = counted(backbone)
    backbone.denoise(video, high, condition)
    assert {number for number, _ in ran} == {0}


def test_a_head_is_told_of_all_levels_by_one_embedding():
    backbone = made(EXPERTS)
    # Just below and above the boundary.
    sigma = torch.tensor([8.9999, 9.0001])
    below, above = backbone.embed(sigma)
    torch.testing.assert_close(below, above, rtol=0, atol=1e-3)
    assert (backbone.second.embed(1000 * flow_time(sigma))[0] - above).abs().max() > 0.1


def test_adapters_blocks_and_checkpointing_are_those_of_both_networks():
    backbone = made(EXPERTS)
    backbone.enable_gradient_checkpointing()
    assert [net.gradient_checkpointing for net in backbone.experts] == [True, True]
    for number in ("net.", "second."):
        names = [name for name, _ in backbone.named_modules() if name.startswith(number)]
        assert sum(name.endswith(backbone.lora_targets) for name in names) == 10 * EXPERTS.layers
    blocks = [module for module in backbone.modules() if type(module).__name__ in backbone.repeated_blocks]
    assert len(blocks) == 2 * EXPERTS.layers
