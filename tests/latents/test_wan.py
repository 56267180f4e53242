"""Wan's autoencoders: both generations agree with diffusers' own, tiled or not, and keep time causal."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan

from videopolicy.errors import UserError
from videopolicy.latents import wan

OF_2_1 = replace(wan.EXAMPLE, levels=(1, 1, 2, 2))
OF_2_2 = replace(wan.EXAMPLE, levels=(1, 1, 2, 2), decoder_width=8, patch=2, averages=True)
GENERATIONS = pytest.mark.parametrize("config", [OF_2_1, OF_2_2], ids=["2.1", "2.2"])
WINDOWS = torch.randint(0, 256, (2, 9, 64, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(config):
    torch.manual_seed(0)
    return config.build()


def stock(latents) -> AutoencoderKLWan:
    """Another one of diffusers', as it builds it of a description, with the same weights."""
    vae = AutoencoderKLWan.from_config(dict(latents.vae.config)).eval()
    vae.load_state_dict(latents.vae.state_dict())
    return vae


def pixels(windows):
    return (windows.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).contiguous()


@GENERATIONS
@pytest.mark.parametrize("tile", [None, 64])
@torch.no_grad()
def test_codes_and_frames_are_diffusers(config, tile):
    latents = built(replace(config, tile=tile))
    vae = stock(latents)
    if tile:
        vae.enable_tiling(tile, tile, 48, 48)
    windows = torch.cat((WINDOWS, WINDOWS), 3).repeat(1, 1, 1, 2, 1) if tile else WINDOWS
    codes = latents.encode_window(windows)
    moments = vae.encode(pixels(windows)).latent_dist.parameters
    torch.testing.assert_close(codes.transpose(1, 2), moments, rtol=0, atol=1e-5)
    drawn = latents.sample(codes.flatten(0, 1), None).unflatten(0, codes.shape[:2])
    mean, deviation = (torch.tensor(values).view(-1, 1, 1, 1) for values in (config.mean, config.deviation))
    torch.testing.assert_close(drawn.transpose(1, 2), (moments.chunk(2, 1)[0] - mean) / deviation)
    frames = vae.decode(moments.chunk(2, 1)[0]).sample
    back = latents.decode_window(drawn)
    assert back.shape == windows.shape
    assert ((frames + 1) * 127.5 - back.permute(0, 4, 1, 2, 3)).abs().max() <= 0.51


def test_tiles_are_of_consequence_only_where_pictures_are_larger():
    whole, tiled = built(OF_2_1), built(replace(OF_2_1, tile=64))
    assert torch.equal(whole.encode_window(WINDOWS), tiled.encode_window(WINDOWS))
    large = WINDOWS.repeat(1, 1, 2, 4, 1)
    assert not torch.equal(whole.encode_window(large), tiled.encode_window(large))


@GENERATIONS
def test_each_frame_alone_is_an_option(config):
    latents, alone = built(config), built(replace(config, temporal=1))
    assert (latents.temporal, alone.temporal) == (4, 1)
    codes = alone.encode_window(WINDOWS)
    assert codes.shape[1] == 9
    for index in range(9):
        torch.testing.assert_close(codes[:, index], latents.encode(WINDOWS[:, index]), rtol=0, atol=1e-5)
    drawn = alone.sample(codes.flatten(0, 1), None).unflatten(0, codes.shape[:2])
    assert torch.equal(alone.decode_window(drawn)[:, 5], latents.decode(drawn[:, 5]))


def test_coding_in_parts_changes_nothing(monkeypatch):
    latents = built(OF_2_1)
    whole = latents.encode_window(WINDOWS)
    monkeypatch.setattr(wan, "AT_ONCE", wan.GROUP)
    torch.testing.assert_close(latents.encode_window(WINDOWS), whole, rtol=1e-5, atol=1e-5)


def test_the_current_image_conditions_in_the_scale_of_what_is_denoised():
    latents = built(OF_2_1)
    codes = latents.encode(WINDOWS[:, 0])
    assert torch.equal(latents.condition(codes), latents.sample(codes, None))
    expected = (codes[:, 0] - OF_2_1.mean[0]) / OF_2_1.deviation[0]
    torch.testing.assert_close(latents.condition(codes)[:, 0], expected)


def test_a_draw_has_the_posteriors_mean_and_deviation():
    latents = built(OF_2_1)
    mean, logvar = torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([0.0, -1.0, -4.0, 1.0])
    codes = torch.cat((mean, logvar))[None, :, None, None].expand(1, -1, 128, 128)
    drawn = latents.sample(codes, torch.Generator().manual_seed(0))
    shift, deviation = torch.tensor(OF_2_1.mean), torch.tensor(OF_2_1.deviation)
    torch.testing.assert_close(drawn.mean((0, 2, 3)), (mean - shift) / deviation, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std((0, 2, 3)), (logvar / 2).exp() / deviation, rtol=0.03, atol=0)


def test_weights_of_half_precision_give_nearly_the_same_and_autocast_changes_nothing():
    latents = built(OF_2_1)
    codes = latents.encode(WINDOWS[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(latents.encode(WINDOWS[0]), codes)
    half = built(OF_2_1).bfloat16().encode(WINDOWS[0])
    assert half.dtype == torch.float32
    assert (half - codes).abs().mean() < 0.05 * codes.std()
    assert not any(weight.requires_grad for weight in latents.parameters())


@pytest.mark.parametrize(
    ("config", "parameters", "channels", "side"), [(wan.WAN_2_1, 127, 16, 8), (wan.WAN_2_2, 705, 48, 16)]
)
def test_the_full_sizes_are_wans(config, parameters, channels, side):
    with torch.device("meta"):
        latents = config.build()
    assert round(sum(weight.numel() for weight in latents.parameters()) / 1e6) == parameters
    assert (latents.channels, latents.code_channels, latents.downsampling) == (channels, 2 * channels, side)
    assert latents.temporal == 4


def test_the_first_generation_is_diffusers_default():
    with torch.device("meta"):
        ours, theirs = wan.WAN_2_1.build().vae, AutoencoderKLWan()
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert tuple(theirs.config.latents_mean) == wan.MEAN_2_1
    assert tuple(theirs.config.latents_std) == wan.DEVIATION_2_1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"temporal": 2}, "4 frames to a latent"),
        ({"levels": (1, 2)}, "3 levels"),
        ({"mean": (0.0,)}, "1 means and 4 deviations"),
        ({"deviation": (0.0, 1.0, 1.0, 1.0)}, "deviation"),
        ({"tile": 40}, "multiple of 16"),
    ],
)
def test_impossible_shapes_are_refused(wrong, told):
    with pytest.raises(UserError, match=told):
        replace(wan.EXAMPLE, **wrong)
