"""SVD's autoencoder: the authors' numbers and names, its two scales, its slices."""

import re
from pathlib import Path

import pytest
import torch
from tests.golden.fill import fill, golden, noise

from videopolicy.errors import UserError
from videopolicy.latents import svd
from videopolicy.latents.svd_keys import fold_quant, from_sgm, to_sgm

SMALL = svd.Config(channels=(32, 32))
FRAMES = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LATENTS = noise("latents", (5, 4, 8, 8))


def filled(config=SMALL, **changes) -> svd.SVD:
    """Numbers of a sound autoencoder's size, each from its own name."""
    latents = svd.Config(**{"channels": config.channels, **changes}).build()
    latents.load_state_dict({name: fill(name, tuple(value.shape)) for name, value in latents.state_dict().items()})
    return latents


@pytest.fixture(scope="module")
def latents():
    return filled()


@pytest.fixture(scope="module")
def authors():
    lines = (Path(__file__).parents[1] / "golden/vae_keys.txt").read_text(encoding="utf-8").splitlines()
    shapes = {line.split()[0]: tuple(map(int, re.findall(r"\d+", line.partition("(")[2]))) for line in lines}
    return {name: fill(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def imported(authors):
    built = svd.Config(channels=(32, 64, 128, 128)).build()
    built.vae.load_state_dict(from_sgm(authors))
    return built


@torch.no_grad()
def test_the_encoder_is_the_authors(imported):
    frames = noise("vae/frames", (6, 3, 64, 64)).tanh()
    moments = imported.vae.encode(frames).latent_dist.parameters
    torch.testing.assert_close(moments, golden("vae")["encoder.moments"], rtol=0, atol=1e-4)


def test_the_decoder_is_the_authors(imported):
    frames = imported.pixels(noise("vae/latents", (6, 4, 8, 8)) * svd.SCALE)
    torch.testing.assert_close(frames, golden("vae")["decoder.frames"], rtol=0, atol=1e-4)


def test_every_weight_has_one_name_here_and_one_there(imported, authors):
    renamed = from_sgm(authors)
    assert len(authors) == 372 and len(renamed) == 374
    assert {name: tuple(value.shape) for name, value in imported.vae.state_dict().items()} == {
        name: tuple(value.shape) for name, value in renamed.items()
    }
    back = to_sgm(renamed)
    assert back.keys() == authors.keys()
    assert all(torch.equal(back[name], value) for name, value in authors.items())


@torch.no_grad()
def test_folding_the_quantisation_convolution_changes_no_number(latents):
    folded = filled()
    folded.vae.load_state_dict(from_sgm(to_sgm(latents.vae.state_dict())))
    assert torch.equal(folded.vae.quant_conv.weight.flatten(1), torch.eye(8))
    torch.testing.assert_close(folded.encode(FRAMES), latents.encode(FRAMES), rtol=1e-4, atol=1e-5)
    assert "quant_conv.bias" not in fold_quant(latents.vae.state_dict())


def test_a_foreign_or_missing_name_is_refused_by_name(authors):
    with pytest.raises(UserError, match=r"decoder\.mid\.block_3\.norm1\.weight"):
        from_sgm({**authors, "decoder.mid.block_3.norm1.weight": torch.ones(128)})
    with pytest.raises(UserError, match=r"encoder\.conv_out\.bias"):
        from_sgm({name: value for name, value in authors.items() if name != "encoder.conv_out.bias"})


def test_targets_are_scaled_and_conditions_are_not(latents):
    codes = latents.encode(FRAMES)
    torch.testing.assert_close(latents.sample(codes, None), codes[:, :4] * 0.18215)
    assert torch.equal(latents.condition(codes), codes[:, :4])


def test_a_draw_has_the_posteriors_mean_and_deviation(latents):
    mean, logvar = torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([0.0, -1.0, -4.0, 1.0])
    codes = torch.cat((mean, logvar))[None, :, None, None].expand(1, -1, 128, 128)
    drawn = latents.sample(codes, torch.Generator().manual_seed(0)) / 0.18215
    torch.testing.assert_close(drawn.mean((0, 2, 3)), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std((0, 2, 3)), (logvar / 2).exp(), rtol=0.03, atol=0)


def test_codes_survive_the_half_precision_of_a_cache():
    extreme = filled()
    # A log-variance of -1e6 is no float16 number; the pretrained encoder's are about -15.
    extreme.vae.quant_conv.bias[4:] = -1e6
    codes = extreme.encode(FRAMES)
    kept = codes.half().float()
    assert kept.isfinite().all()
    drawn, kept_drawn = (extreme.sample(c, torch.Generator().manual_seed(0)) for c in (codes, kept))
    torch.testing.assert_close(kept_drawn, drawn, rtol=2e-3, atol=1e-4)


def test_encoding_in_slices_changes_nothing(latents, monkeypatch):
    whole = latents.encode(FRAMES)
    monkeypatch.setattr(svd, "ENCODED", 2)
    torch.testing.assert_close(latents.encode(FRAMES), whole, rtol=1e-5, atol=1e-5)


def test_frames_decoded_together_see_each_other_and_slices_do_not(latents):
    changed = LATENTS.clone()
    changed[3] += 1
    together = (latents.pixels(changed) - latents.pixels(LATENTS)).abs().amax((1, 2, 3))
    assert together[0] > 1e-4
    sliced = filled(decode_frames=2)
    apart = (sliced.pixels(changed) - sliced.pixels(LATENTS)).abs().amax((1, 2, 3))
    assert not apart[[0, 1, 4]].any() and (apart[2:4] > 1e-4).all()
    torch.testing.assert_close(sliced.pixels(LATENTS)[2:4], latents.pixels(LATENTS[2:4]), rtol=1e-5, atol=1e-5)


def test_decoded_frames_are_rounded_and_clipped(latents):
    pixels = latents.pixels(LATENTS * 2)
    frames = latents.decode(LATENTS * 2)
    assert pixels.min() < -1 and pixels.max() > 1
    assert frames.dtype == torch.uint8 and frames.min() == 0 and frames.max() == 255
    back = frames.permute(0, 3, 1, 2) / 127.5 - 1
    assert (back - pixels.clamp(-1, 1)).abs().max() <= 0.5 / 127.5 + 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_give_nearly_the_same(latents, dtype):
    half = filled().to(dtype)
    codes = half.encode(FRAMES)
    assert codes.dtype == torch.float32
    error = (codes - latents.encode(FRAMES)).abs().mean()
    assert error < 0.05 * latents.encode(FRAMES).std()
    assert half.decode(LATENTS).dtype == torch.uint8


def test_it_is_frozen_and_autocast_does_not_reach_it(latents):
    assert not any(weight.requires_grad for weight in latents.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(latents.encode(FRAMES), latents.encode(FRAMES))
        inside = latents.encode(FRAMES)
    assert torch.equal(inside, latents.encode(FRAMES))


def test_the_full_size_is_svds(authors):
    with torch.device("meta"):
        full = svd.Config().build()
    assert full.vae.state_dict().keys() == from_sgm(authors).keys()
    assert round(sum(weight.numel() for weight in full.parameters()) / 1e6) == 98
    assert (full.channels, full.code_channels, full.downsampling) == (4, 8, 8)


@pytest.mark.parametrize("wrong", [{"channels": (32, 48)}, {"decode_frames": 0}])
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        svd.Config(**wrong)
