"""The transformer is diffusers' own, shown the current images as clean frames; views share one video."""

import re
from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel

from videopolicy.backbones.base import Condition
from videopolicy.backbones.frames import Arrangement
from videopolicy.backbones.wan import EXAMPLE, I2V_A14B, T2V_1_3B, T2V_A14B, TI2V_5B
from videopolicy.diffusion.flow import flow_time
from videopolicy.errors import UserError
from videopolicy.latents.wan import WAN_2_1, WAN_2_2

CHANNELS, WIDTH, TOKENS, SIDE = 4, 16, 3, 8
PATCHED = replace(EXAMPLE, patch=2, taps=(0, 2))


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(views, frames=2):
    latents = draw(2, views, 1, CHANNELS, SIDE, SIDE, seed=1).expand(-1, -1, frames, -1, -1, -1).flatten(1, 2)
    condition = Condition(latents, draw(2, TOKENS, WIDTH, seed=2))
    return draw(2, views * frames, CHANNELS, SIDE, SIDE), torch.tensor([0.3, 20.0]), condition


def made(config=PATCHED, views=1, pad=0):
    backbone = config.build(CHANNELS, WIDTH).eval()
    backbone.arrange(views, pad, SIDE)
    return backbone


def stock(backbone):
    net = WanTransformer3DModel.from_config(backbone.net.config).eval()
    net.load_state_dict(backbone.net.state_dict())
    return net


@pytest.mark.parametrize(("how", "views"), [("width", 1), ("width", 3), ("time", 3)])
@torch.no_grad()
def test_it_denoises_as_diffusers_transformer_with_a_time_for_each_token(how, views):
    backbone = made(replace(PATCHED, views=how), views)
    video, sigma, condition = inputs(views)
    time = flow_time(sigma)
    noisy = (video / (1 + sigma)[:, None, None, None, None]).unflatten(1, (views, 2))
    current = condition.latents.unflatten(1, (views, 2))[:, :, :1]
    if how == "width":
        whole = torch.cat([torch.cat((current[:, view], noisy[:, view]), 1) for view in range(views)], 4)
        clean = 1
    else:
        whole = torch.cat((current[:, :, 0], noisy.flatten(1, 2)), 1)
        clean = views
    tokens = whole[0, 0, 0].numel() // 4
    each = [1000 * time * (frame >= clean) for frame in range(whole.shape[1])]
    times = torch.stack(each, 1).repeat_interleave(tokens, 1)
    velocity = stock(backbone)(whole.transpose(1, 2), times, condition.text).sample.transpose(1, 2)[:, clean:]
    if how == "width":
        velocity = torch.cat(velocity.split(SIDE, 4), 1)
    guess = video / (1 + sigma)[:, None, None, None, None] - time[:, None, None, None, None] * velocity
    torch.testing.assert_close(backbone.denoise(video, sigma, condition)[0], guess, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_taps_are_the_blocks_outputs_normed_and_in_the_order_of_the_flat_frames():
    backbone, kept = made(views=2), []
    backbone.net.blocks[2].register_forward_hook(lambda _block, _inputs, output: kept.append(output))
    video, sigma, condition = inputs(2)
    tap = backbone.denoise(video, sigma, condition)[1].taps[1]
    normed = torch.nn.functional.layer_norm(kept[0], kept[0].shape[-1:], eps=1e-6)
    # Time, height, and both views' width.
    grid = normed.unflatten(1, (3, SIDE // 2, SIDE))
    for view in range(2):
        for frame in range(2):
            seen = grid[:, 1 + frame, :, view * SIDE // 2 : (view + 1) * SIDE // 2].permute(0, 3, 1, 2)
            torch.testing.assert_close(tap[:, view * 2 + frame], seen)


@torch.no_grad()
def test_features_alone_need_no_block_behind_the_last_tap():
    backbone, ran = made(replace(PATCHED, taps=(1, 0))), []
    for index, block in enumerate(backbone.net.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    backbone.read(*inputs(1))
    assert ran == [0, 1]


@torch.no_grad()
def test_views_know_of_each_other():
    backbone = made(views=2)
    video, sigma, condition = inputs(2)
    changed = video.clone()
    changed[:, 3] += 1
    before, after = backbone.denoise(video, sigma, condition)[0], backbone.denoise(changed, sigma, condition)[0]
    assert (after - before)[:, 0].abs().max() > 1e-6


@pytest.mark.parametrize("how", ["width", "time"])
def test_an_arrangement_gives_back_the_frames_that_it_joined(how):
    layout, video = Arrangement(how, 3), draw(2, 6, 4, 5, 7)
    assert torch.equal(layout.split(layout.join(draw(2, 3, 4, 5, 7, seed=1), video)), video)


@torch.no_grad()
def test_a_hidden_text_begins_as_the_empty_instruction_does():
    backbone = made()
    backbone.empty_prompt.copy_(draw(WIDTH, seed=5))
    video, sigma, condition = inputs(1)
    empty = torch.cat((backbone.empty_prompt.expand(2, 1, -1), torch.zeros(2, TOKENS - 1, WIDTH)), 1)
    told = replace(condition, text=empty)
    hidden = condition.drop(torch.zeros(2, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool))
    expected = backbone.denoise(video, sigma, told)[0]
    for nothing in (hidden, backbone.unguided(condition)):
        assert torch.equal(backbone.denoise(video, sigma, nothing)[0], expected)


def test_guidance_leads_away_from_no_text_but_the_same_image():
    _, _, condition = inputs(1)
    unguided = made().unguided(condition)
    assert torch.equal(unguided.latents, condition.latents) and not unguided.text.any()


def test_cosines_and_sines_are_diffusers_and_stay_exact_in_half_precision():
    backbone, frames = made(), draw(1, CHANNELS, 3, 4, 6)
    for ours, theirs in zip(backbone.bfloat16().net.rope(frames), stock(made()).rope(frames), strict=True):
        torch.testing.assert_close(ours, theirs)


def of_odd_size(backbone):
    video = draw(1, 2, CHANNELS, 7, 7)
    return backbone.denoise(video, torch.ones(1), Condition(video, draw(1, TOKENS, WIDTH)))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: made(pad=1), "pad"),
        (lambda: replace(EXAMPLE, grey=2), "set image='channels'"),
        (lambda: replace(EXAMPLE, boundary=1.5), "backbone.boundary"),
        (lambda: replace(I2V_A14B, layers=1, taps=()).build(CHANNELS, WIDTH, 2 * CHANNELS), "with the 12 that it is"),
        (lambda: replace(EXAMPLE, taps=(3,)), "different blocks, 0 to 2"),
        (lambda: replace(EXAMPLE, frequencies=15), "are an even number"),
        (lambda: replace(EXAMPLE, head_channels=13), "are an even number"),
        (lambda: EXAMPLE.build(CHANNELS, WIDTH, CHANNELS - 1), "conditioning latents of 3 channels"),
        (lambda: of_odd_size(made()), "latents of 7x7 do not divide"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(fault, message):
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        fault()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "latents", "billions"),
    [
        (TI2V_5B, WAN_2_2, 5.00),
        (T2V_1_3B, WAN_2_1, 1.42),
        (T2V_A14B, WAN_2_1, 14.29),
        (I2V_A14B, WAN_2_1, 14.29),
    ],
)
def test_it_has_as_many_parameters_as_published(shape, latents, billions):
    with torch.device("meta"):
        backbone = shape.build(len(latents.mean), 4096)
    for net in backbone.experts:
        assert sum(parameter.numel() for parameter in net.parameters()) / 1e9 == pytest.approx(billions, abs=0.005)
