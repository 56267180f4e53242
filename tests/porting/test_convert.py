"""Pretrained weights become a policy that computes the authors' numbers; whatever does not fit is named."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.golden.fill import golden, noise
from tests.golden.keys import keys
from tests.porting.weights import (
    ACTING,
    CLIP,
    CONDITIONER,
    FIRST,
    NET,
    STATISTICS,
    VIDEO,
    head_weights,
    lightning,
    safe,
    svd_weights,
    text_weights,
)
from tests.small import same

from videopolicy import checkpoint
from videopolicy.backbones.base import Condition
from videopolicy.errors import UserError
from videopolicy.porting import sgm, towers
from videopolicy.porting.convert import LEFT_OUT, convert, convert_sgm
from videopolicy.presets.svd import PRESET

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights():
    return svd_weights()


@pytest.fixture(scope="module")
def source(weights, tmp_path_factory):
    return safe(weights, tmp_path_factory.mktemp("sgm") / "svd_xt.safetensors")


@pytest.fixture(scope="module")
def ported(source):
    return convert(source, VIDEO)


@pytest.fixture(scope="module")
def acting(weights, tmp_path_factory):
    source = lightning(weights | head_weights(), tmp_path_factory.mktemp("authors") / "stage_2.ckpt")
    return convert(source, ACTING, statistics=STATISTICS)


def altered(weights, **changes):
    """What is made of the weights with some replaced, or left out (None)."""
    changed = {name: value for name, value in {**weights, **changes}.items() if value is not None}
    return convert_sgm(changed, Path("x.ckpt"), VIDEO)


@torch.no_grad()
def test_the_video_model_computes_the_authors_numbers(ported):
    x = noise("unet/x", (18, 8, 16, 16)).unflatten(0, (2, 9))
    condition = Condition(x[:, :, 4:], noise("unet/context", (2, 1, 48)))
    output, _ = ported.model.backbone(x[:, :, :4], condition, torch.tensor([2.3, 0.4]).log() / 4)
    torch.testing.assert_close(output.flatten(0, 1), golden("unet")["same.output"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_autoencoder_computes_the_authors_numbers(ported):
    moments = ported.model.latents.vae.encode(noise("vae/frames", (6, 3, 64, 64)).tanh()).latent_dist.parameters
    torch.testing.assert_close(moments, golden("vae")["encoder.moments"], rtol=0, atol=1e-4)
    frames = ported.model.latents.pixels(noise("vae/latents", (6, 4, 8, 8)) * 0.18215)
    torch.testing.assert_close(frames, golden("vae")["decoder.frames"], rtol=0, atol=1e-4)


def test_sizes_are_read_off_the_weights(ported):
    config = ported.model.config
    assert config.backbone == replace(VIDEO.backbone, channels=(32, 64, 128, 128), id_width=32)
    assert config.latents == replace(VIDEO.latents, channels=(32, 64, 128, 128))
    assert (config.text.width, config.text.hidden, config.text.layers, config.text.heads) == (48, 32, 2, 1)
    assert ported.model.head is None and ported.model.normalizer is None


def test_every_weight_is_in_one_row_of_the_report(ported, weights):
    assert sum(row.tensors for row in ported.rows) == len(weights)
    assert sum(row.numbers for row in ported.rows) == sum(value.numel() for value in weights.values())
    became = {row.source: row.became for row in ported.rows}
    assert became[NET] == "backbone" and became[CLIP] == "text"
    assert became[f"{CONDITIONER}decoder."].startswith(LEFT_OUT)


def test_a_head_comes_with_its_statistics(acting, tmp_path):
    model = acting.model
    assert model.normalizer == STATISTICS and model.action_width == 3
    assert {row.became for row in acting.rows} >= {"head: adapter", "head: action denoiser"}
    theirs = head_weights()
    assert torch.equal(model.head.out[1].weight, theirs[NET + "pose_pred_net.final_conv.1.weight"])
    narrow = model.head.adapter.views[1].tail[0][0].narrow[0].weight
    assert torch.equal(narrow, theirs[NET + "vision_encoder.layer6_2.0.conv1.0.weight"])
    checkpoint.save(model, checkpoint.Provenance("action", 0), tmp_path / "checkpoint")
    loaded, _ = checkpoint.load(tmp_path / "checkpoint")
    assert same(loaded, model) and loaded.normalizer == STATISTICS
    sampled = loaded.sample(
        Condition(torch.zeros_like(loaded.blank(1).video), torch.zeros(1, 1, 48)),
        loaded.blank(1),
        replace(ACTING.sampling, steps=1),
    )
    assert sampled.actions.isfinite().all() and sampled.actions.shape == (1, 8, 3)


def test_the_authors_head_at_its_real_size_has_a_place_for_every_weight():
    names = {**keys("encoder", "vision_encoder."), **keys("action", "pose_pred_net.")}
    theirs = {name: torch.empty(shape, device="meta") for name, shape in names.items()}
    video = sgm.on_meta(PRESET.model.backbone, 4, 1024)
    piece, width = sgm.head(theirs, video, PRESET.model, "")
    assert width == 7 and len(piece.state) == len(theirs)
    assert all(piece.state[name].shape == value.shape for name, value in piece.state.items())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (NET + "out.2.bias", None, r"model.diffusion_model.out.2.bias is missing$"),
        (NET + "out.3.bias", torch.ones(4), ".*out.3.bias does not belong there$"),
        (NET + "out.2.bias", torch.ones(5), r".*out.2.bias is 5, but must be 4$"),
        (NET + "input_blocks.0.0.weight", torch.ones(32, 4, 3, 3), ".*is 32 x 4 x 3 x 3, but must be 32 x 8 x 3 x 3$"),
        (NET + "label_emb.0.0.weight", None, ".*label_emb.0.0.weight is missing$"),
        (FIRST + "decoder.mid.block_1.time_stack.in_layers.0.bias", None, ".*time_stack.in_layers.0.bias is missing$"),
        (FIRST + "encoder.conv_in.bias", None, "first_stage_model.encoder.conv_in.bias is missing$"),
        (FIRST + "loss.logvar", torch.ones(1), ".*loss.logvar is no weight of Stable Video Diffusion"),
        (CONDITIONER + "quant_conv.bias", None, ".*quant_conv.bias is missing$"),
        (CONDITIONER + "encoder.conv_in.weight", torch.zeros(32, 3, 3, 3), ".*encoder.conv_in.weight is not what the"),
        (CLIP + "ln_final.bias", None, ".*ln_final.bias is missing$"),
        ("optimizer.step", torch.ones(1), "optimizer.step is no weight"),
    ],
)
def test_a_weight_that_does_not_fit_is_refused_by_name(weights, name, value, message):
    with pytest.raises(UserError, match=rf"x\.ckpt: {message}"):
        altered(weights, **{name: value})


def test_many_missing_weights_are_counted(weights):
    with pytest.raises(UserError, match=r"output_blocks\.11\.\S+ is missing \(and \d\d more\)"):
        altered(weights, **{name: None for name in weights if "output_blocks.11" in name})


def test_averages_are_left_out_and_told(weights):
    found = altered(weights, **{"model_ema.diffusion_modelout0bias": torch.ones(2)})
    assert "averages" in {row.source: row.became for row in found.rows}["model_ema."]


def test_the_wrong_model_is_refused(weights, tmp_path, source):
    with pytest.raises(UserError, match="14 frames"):
        convert(safe({"any": torch.ones(1)}, tmp_path / "svd.safetensors"), VIDEO)
    with pytest.raises(UserError, match="4 levels; this model's has 3"):
        three = replace(VIDEO.backbone, channels=(320, 640, 1280), attention=(True,) * 3, taps=("mid_block",))
        convert(source, replace(VIDEO, backbone=three))
    with pytest.raises(UserError, match=r"no weights model\.diffusion_model\."):
        convert_sgm(text_weights(CLIP), Path("x.ckpt"), VIDEO)


def test_another_number_of_views_is_refused(weights):
    three = replace(ACTING, views=("left", "right", "top"))
    with pytest.raises(UserError, match="is for 2 views; this model sees 3"):
        convert_sgm(weights | head_weights(), Path("x.ckpt"), three, statistics=STATISTICS)


def test_statistics_are_needed_by_a_head_and_by_nothing_else(weights, source):
    acting = weights | head_weights()
    with pytest.raises(UserError, match="--data, or the ranges themselves as --statistics"):
        convert_sgm(acting, Path("x.ckpt"), ACTING)
    with pytest.raises(UserError, match="actions 3 wide, but the statistics are of 2"):
        convert_sgm(acting, Path("x.ckpt"), ACTING, statistics=replace(STATISTICS, low=(0.0, 0.0), high=(1.0, 1.0)))
    with pytest.raises(UserError, match="of video alone"):
        convert(source, VIDEO, statistics=STATISTICS)


def test_a_text_tower_comes_from_elsewhere_where_there_is_none(ported, tmp_path):
    source = safe(svd_weights(text=False), tmp_path / "svd_xt.safetensors")
    with pytest.raises(UserError, match="add --text laion/"):
        convert(source, VIDEO)
    (tmp_path / "clip").mkdir()
    extra = {"visual.proj": torch.ones(2), "logit_scale": torch.ones(())}
    safe(text_weights() | extra, tmp_path / "clip/open_clip_model.safetensors")
    found = convert(source, VIDEO, str(tmp_path / "clip"))
    assert same(found.model.text, ported.model.text)
    read = [row.tensors for row in found.rows if row.source == "open_clip_model.safetensors"]
    assert read == [len(text_weights()), 2]


def test_transformers_text_towers_are_read_too(ported, tmp_path):
    tower = {f"{name}": value for name, value in ported.model.text.tower.state_dict().items()}
    more = {"vision_model.x": torch.ones(1), "visual_projection.weight": torch.ones(1), "logit_scale": torch.ones(())}
    safe(tower | more, tmp_path / "model.safetensors")
    piece, rows = towers.read_tower(str(tmp_path), VIDEO.text)
    assert all(torch.equal(piece.state[f"text.tower.{name}"], value) for name, value in tower.items())
    assert [row.tensors for row in rows] == [len(tower), 3]


def test_a_text_tower_of_another_width_is_refused(source, tmp_path):
    other = text_weights() | {"text_projection": torch.ones(32, 40)}
    with pytest.raises(UserError, match="tokens are 40 wide, the video model attends to 48"):
        convert(source, VIDEO, safe(other, tmp_path / "clip.safetensors"))
