"""Cosmos' transformer: it computes what diffusers' does, however views are arranged, and has the published sizes."""

from dataclasses import replace

import pytest
import torch
from tests.cosmos import stock, without_torchvision

from videopolicy.backbones import cosmos
from videopolicy.backbones.base import Condition
from videopolicy.errors import UserError
from videopolicy.training.lora import adapt

CHANNELS, WIDTH, TOKENS = 4, 16, 5
SMALL = replace(cosmos.EXAMPLE, patch=2)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(config=SMALL, views=1):
    torch.manual_seed(0)
    backbone = config.build(CHANNELS, WIDTH).eval()
    backbone.arrange(views, 0, 8)
    return backbone


def inputs(frames, views=1):
    """Each view's current image stands at each of its frames."""
    current = draw(2, views, CHANNELS, 8, 4, seed=1)
    condition = Condition(current.repeat_interleave(frames // views, 1), draw(2, TOKENS, WIDTH, seed=2))
    return draw(2, frames, CHANNELS, 8, 4), torch.tensor([0.5, 20.0]), condition


@torch.no_grad()
def theirs(backbone, video, sigma, text, clean, fps):
    """D of a video, (B, C, T, H, W) with its clean frames in it, as diffusers' pipeline computes it."""
    level = sigma.view(-1, 1, 1, 1, 1)
    time = level / (1 + level)
    first = torch.zeros(1, 1, video.shape[2], 1, 1)
    first[:, :, :clean] = 1
    seen = first * video + (1 - first) * video * (1 - time)
    out = stock(backbone.net)(
        hidden_states=seen,
        timestep=first * (1e-4 / 1.0001) + (1 - first) * time,
        encoder_hidden_states=text,
        fps=fps,
        condition_mask=first.expand(len(video), -1, -1, *video.shape[-2:]),
        padding_mask=torch.zeros(1, 1, 64, 64),
    ).sample
    return ((1 - time) * video - time * out)[:, :, clean:]


@pytest.mark.parametrize("fps", [16.0, None])
@pytest.mark.parametrize("projected", [None, 8])
def test_it_computes_what_diffusers_does(monkeypatch, fps, projected):
    without_torchvision(monkeypatch)
    backbone = built(replace(SMALL, fps=fps, projected=projected))
    video, sigma, condition = inputs(3)
    with torch.no_grad():
        ours, _ = backbone.denoise(video, sigma, condition)
    whole = torch.cat((condition.latents[:, :1], video), 1).transpose(1, 2)
    expected = theirs(backbone, whole, sigma, condition.text, 1, fps)
    torch.testing.assert_close(ours.transpose(1, 2), expected, rtol=0, atol=1e-5)


def test_views_stand_side_by_side_in_one_picture(monkeypatch):
    without_torchvision(monkeypatch)
    backbone = built(views=2)
    video, sigma, condition = inputs(6, views=2)
    with torch.no_grad():
        ours, features = backbone.denoise(video, sigma, condition)
    left, right = (
        torch.cat((condition.latents[:, view : view + 1], video[:, view : view + 3]), 1).transpose(1, 2)
        for view in (0, 3)
    )
    expected = theirs(backbone, torch.cat((left, right), 4), sigma, condition.text, 1, 16.0)
    both = torch.cat((expected[..., :4], expected[..., 4:]), 2).transpose(1, 2)
    torch.testing.assert_close(ours, both, rtol=0, atol=1e-5)
    assert features.taps[0].shape == (2, 6, backbone.tap_channels[0], 4, 2)


def test_views_follow_each_other_in_time(monkeypatch):
    without_torchvision(monkeypatch)
    backbone = built(replace(SMALL, views="time"), views=3)
    video, sigma, condition = inputs(6, views=3)
    with torch.no_grad():
        ours, _ = backbone.denoise(video, sigma, condition)
    whole = torch.cat((condition.latents[:, ::2], video), 1).transpose(1, 2)
    expected = theirs(backbone, whole, sigma, condition.text, 3, 16.0)
    torch.testing.assert_close(ours.transpose(1, 2), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_tap_shows_each_frame_its_own_tokens():
    """A change of one corner of one frame is felt most in that corner of that frame's features."""
    backbone = built(replace(SMALL, taps=(0,)))
    video, sigma, condition = inputs(3)
    changed = video.clone()
    changed[:, 1, :, 6:, :2] += 3
    before, after = (backbone.denoise(seen, sigma, condition)[1].taps[0] for seen in (video, changed))
    moved = (after - before).abs().sum(2)
    assert all(clip.argmax() == 1 * 8 + 3 * 2 for clip in moved.flatten(1))


@torch.no_grad()
def test_guidance_leads_away_from_the_empty_prompt_and_keeps_the_picture():
    backbone = built()
    video, sigma, condition = inputs(3)
    away = backbone.unguided(condition)
    assert torch.equal(away.latents, condition.latents) and not away.text.any()
    backbone.empty_prompt.copy_(draw(WIDTH, seed=5))
    empty = torch.cat((backbone.empty_prompt.expand(2, 1, -1), torch.zeros(2, TOKENS - 1, WIDTH)), 1)
    told = Condition(condition.latents, empty)
    assert torch.equal(backbone.denoise(video, sigma, away)[0], backbone.denoise(video, sigma, told)[0])
    assert not torch.equal(backbone.denoise(video, sigma, away)[0], backbone.denoise(video, sigma, condition)[0])


@pytest.mark.parametrize(
    ("config", "text_width", "billions"), [(cosmos.PREDICT2_2B, 1024, 1.96), (cosmos.PREDICT2_5_2B, 100_352, 2.06)]
)
def test_the_full_sizes_are_as_published(config, text_width, billions):
    with torch.device("meta"):
        backbone = config.build(16, text_width)
    assert round(sum(weight.numel() for weight in backbone.net.parameters()) / 1e9, 2) == billions


def test_adapters_stand_beside_every_layer_of_its_blocks():
    backbone = built()
    video, sigma, condition = inputs(3)
    before = backbone.denoise(video, sigma, condition)[0]
    adapt(backbone, 2, 0)
    learns = [name for name, weight in backbone.named_parameters() if weight.requires_grad]
    # Four projections of either attention, and two layers behind them; two matrices each.
    assert len(learns) == 2 * 10 * SMALL.layers and all("transformer_blocks" in name for name in learns)
    torch.testing.assert_close(backbone.denoise(video, sigma, condition)[0], before)


def test_what_does_not_fit_is_refused_in_one_line():
    video, sigma, condition = inputs(3)
    with pytest.raises(UserError, match=r"latents of 3x8 do not divide into patches of 2, as backbone 'cosmos'"):
        built().denoise(video[..., :3], sigma, Condition(condition.latents[..., :3], condition.text))
    with pytest.raises(UserError, match=r"latents of 9x9 do not divide into patches of 2"):
        built().arrange(1, 0, 9)
    wide = Condition(condition.latents.repeat(1, 1, 1, 1, 80), condition.text)
    with pytest.raises(UserError, match=r"frames of 144x16 tokens, 1 or more.*reach to 128.*views='time'"):
        built().arrange(9, 0, 32)
    with pytest.raises(UserError, match=r"frames of 160x4 tokens, 4 or more.*reach to 128.*views='time'"):
        built().denoise(video.repeat(1, 1, 1, 1, 80), sigma, wide)
    with pytest.raises(UserError, match="pad to 0"):
        built().arrange(1, 1, 8)
    with pytest.raises(UserError, match=r"of 3 channels cannot begin with the 4"):
        SMALL.build(CHANNELS, WIDTH, 3)
    with pytest.raises(UserError, match="taps of backbone 'cosmos' are different blocks, 0 to 2"):
        replace(SMALL, taps=(3,))
    with pytest.raises(UserError, match="even number"):
        replace(SMALL, head_channels=13)
