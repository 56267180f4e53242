"""Pipelines of two networks, with the image as a clean frame or on channels, become models that draw as they do.

The first is of the kind of Wan2.2-T2V-A14B, shown a clean first frame; the second of Wan2.2-I2V-A14B.
"""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from tests.porting.published import image, imported
from tests.wan import CHANNELS, FIRST, LENGTH, SENTENCE, SIZE, TRANSFORMERS, drawn_by, levels, opened, write_pipeline

from videopolicy.backbones import wan
from videopolicy.clips.windows import Window
from videopolicy.diffusion.flow import flow_time
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.errors import UserError
from videopolicy.porting.convert import convert
from videopolicy.porting.export import export
from videopolicy.presets.wan_a14b import PRESET

FILE = "diffusion_pytorch_model.safetensors"
# Two shapes: channels that a network sees, and flow time of the boundary.
KINDS = {"frame": (CHANNELS, 0.875), "channels": (2 * CHANNELS + 4, 0.9)}


def template(kind):
    """What the import goes by; the boundary is the pipeline's to tell."""
    full = wan.I2V_A14B if kind == "channels" else wan.T2V_A14B
    return replace(
        PRESET.model,
        views=("corner",),
        size=SIZE,
        window=Window(frames=8, stride=1, actions=8),
        latents=replace(PRESET.model.latents, grey=full.grey),
        backbone=replace(full, layers=2, heads=2, head_channels=12, taps=(1,), boundary=0.5),
        text=replace(PRESET.model.text, length=LENGTH),
    )


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def published(kind, tmp_path_factory):
    seen, boundary = KINDS[kind]
    return write_pipeline(tmp_path_factory.mktemp("published"), boundary=boundary, in_channels=seen)


@pytest.fixture(scope="module")
def model(kind, published, tmp_path_factory):
    """What the pipeline becomes, once it was saved and loaded."""
    return imported(published, template(kind), tmp_path_factory)


def codes_of(model):
    return model.latents.encode(torch.from_numpy(np.array(image(SIZE)))[None])


def drawn_by_us(model, noise, guidance):
    """All latents of the video that the pipeline draws; of a clean frame, the current image's."""
    codes = codes_of(model)
    denoise = model.guided(model.condition(codes[None], [SENTENCE]), LinearGuidance(guidance, guidance))
    begun = noise.transpose(1, 2)
    begun = begun if model.config.leading else begun[:, 1:]
    drawn = euler.sample(denoise, Joint(begun * FIRST, torch.zeros(1, 8, 0)), Levels.same(levels())).video
    if model.config.leading:
        return drawn.transpose(1, 2)
    return torch.cat((model.latents.condition(codes)[None], drawn), 1).transpose(1, 2)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_the_model_draws_what_the_pipeline_draws(model, published, guidance):
    noise, expected = drawn_by(opened(published), model, guidance, "latent")
    ours = drawn_by_us(model, noise, guidance)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    frames = drawn_by(opened(published), model, guidance, "pt")[1]
    shown = model.latents.decode_window(ours.transpose(1, 2))[0].permute(0, 3, 1, 2) / 255
    assert (shown - frames[0]).abs().max() < 0.01


@torch.no_grad()
def test_both_networks_are_needed_for_it(model, published):
    times = flow_time(levels()[:-1])
    assert 0 < sum(times >= model.backbone.shape.boundary) < len(times)
    pipeline = opened(published)
    expected = drawn_by(pipeline, model, 1.0, "latent")[1]
    for part, other in (TRANSFORMERS, TRANSFORMERS[::-1]):
        alone = opened(published)
        alone.register_modules(**{part: getattr(pipeline, other)})
        assert (drawn_by(alone, model, 1.0, "latent")[1] - expected).abs().max() > 0.01


def test_the_boundary_is_the_pipelines(kind, model):
    assert model.config.backbone.boundary == model.backbone.shape.boundary == KINDS[kind][1]


@torch.no_grad()
def test_an_export_opens_as_a_pipeline_and_draws_the_same(model, published, tmp_path):
    export(model, tmp_path / "out")
    alone, pipeline = opened(tmp_path / "out", text_encoder=None, tokenizer=None), opened(published)
    for setting in ("expand_timesteps", "boundary_ratio"):
        assert alone.config[setting] == pipeline.config[setting]
    for part in TRANSFORMERS:
        ours, theirs = getattr(alone, part), getattr(pipeline, part)
        assert {name: value for name, value in ours.config.items() if name[0] != "_"} == {
            name: value for name, value in theirs.config.items() if name[0] != "_"
        }
        weights = theirs.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in ours.state_dict().items())
    again = drawn_by(alone, model, 3.0, "pt")[1]
    torch.testing.assert_close(again, drawn_by(pipeline, model, 3.0, "pt")[1], rtol=0, atol=0)


def test_every_weight_is_accounted_for(kind, published):
    rows = convert(str(published), template(kind)).rows
    for part, row in zip(TRANSFORMERS, rows, strict=False):
        assert row.source == f"{part}/" and row.tensors == len(load_file(published / part / FILE))


@pytest.fixture
def copied(tmp_path):
    """A pipeline of networks that are shown the image on channels."""
    seen, boundary = KINDS["channels"]
    return write_pipeline(tmp_path / "published", boundary=boundary, in_channels=seen)


@torch.no_grad()
def test_marks_and_latents_of_the_image_are_the_pipelines(copied):
    """Behind the image, the pipeline's autoencoder sees grey frames, to each of which the image still matters."""
    pipeline, model = opened(copied), convert(str(copied), template("channels")).model
    noise = torch.randn(1, CHANNELS, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = pipeline.video_processor.preprocess(image(SIZE), height=SIZE, width=SIZE)
    given = {"num_channels_latents": CHANNELS, "height": SIZE, "width": SIZE, "num_frames": 9, "latents": noise}
    condition = pipeline.prepare_latents(pixels, 1, **given, dtype=torch.float32, device="cpu")[1]
    codes = codes_of(model)
    seen = model.backbone.see(model.latents.condition(codes)[None], noise.transpose(1, 2))
    assert torch.equal(seen[:, :CHANNELS], noise)
    torch.testing.assert_close(seen[:, CHANNELS:], condition, rtol=0, atol=1e-5)
    other = model.latents.encode(torch.full((1, SIZE, SIZE, 3), 200, dtype=torch.uint8))
    assert ((other - codes).unflatten(1, (-1, CHANNELS))[:, 2:].abs().amax((0, 2, 3, 4)) > 1e-3).all()


def test_a_longer_future_than_the_latents_show_is_refused(copied):
    model = convert(str(copied), replace(template("channels"), window=Window(frames=12, stride=1, actions=8))).model
    with pytest.raises(UserError, match="an image with 2 grey frames behind it, the video has 3; set grey"):
        drawn_by_us(model, torch.zeros(1, CHANNELS, 4, 8, 8), 1.0)


def refused(source, kind="channels"):
    with pytest.raises(UserError) as caught:
        convert(str(source), template(kind))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_second_network_of_another_shape_is_refused(copied):
    shape = dict(WanTransformer3DModel.load_config(copied / "transformer"))
    WanTransformer3DModel.from_config({**shape, "ffn_dim": 40}).save_pretrained(copied / "transformer_2")
    assert refused(copied).endswith("transformer_2: of another shape than transformer, whose place it takes")


def test_weights_of_the_second_network_are_named(copied):
    file = copied / "transformer_2" / FILE
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if name != "proj_out.bias"}, file)
    assert f"{file}: proj_out.bias is missing" in refused(copied)


def test_a_network_that_is_missing_is_said_so(copied):
    shutil.rmtree(copied / "transformer_2")
    assert re.search("transformer_2/config.json: no such file", refused(copied))


def test_a_file_of_one_network_is_refused(copied):
    assert "one network of two; import" in refused(copied / "transformer" / FILE)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ('{"boundary_ratio": null}', "boundary_ratio None, which tells no time of the second"),
        ('{"boundary_ratio": 1.5}', "boundary"),
        ("[", "not the index of a pipeline"),
    ],
)
def test_an_index_that_tells_no_boundary_is_refused(copied, index, told):
    (copied / "model_index.json").write_text(index, encoding="utf-8")
    assert told in refused(copied)


def test_without_an_index_the_boundary_is_the_presets(copied):
    (copied / "model_index.json").unlink()
    assert convert(str(copied), template("channels")).model.config.backbone.boundary == 0.5


def test_networks_that_are_shown_the_image_otherwise_are_refused(copied, tmp_path):
    assert "12 channels in and 4 out, which is shown the current image on channels" in refused(copied, "frame")
    other = write_pipeline(tmp_path / "other", boundary=0.875)
    assert "4 channels in and 4 out, which has no channels for the current image" in refused(other)
    for part in TRANSFORMERS:
        path = other / part / "config.json"
        facts = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**facts, "image_dim": 8, "added_kv_proj_dim": 24}), encoding="utf-8")
    assert "reads tokens of images" in refused(other)
