"""A pipeline of Wan becomes a model that draws what the pipeline draws, and a pipeline again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from diffusers.pipelines.wan import pipeline_wan_i2v
from safetensors.torch import load_file, save_file
from tests.porting.published import image, imported
from tests.wan import FIRST, LENGTH, SENTENCE, SIZE, drawn_by, levels, opened, write_pipeline

from videopolicy.clips.windows import Window
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.errors import UserError
from videopolicy.latents import wan as latents
from videopolicy.porting import wan
from videopolicy.porting.convert import convert
from videopolicy.porting.export import export
from videopolicy.presets.wan_5b import PRESET

TEMPLATE = replace(
    PRESET.model,
    views=("corner",),
    size=SIZE,
    window=Window(frames=8, stride=1, actions=8),
    backbone=replace(PRESET.model.backbone, layers=2, heads=2, head_channels=12, taps=(1,)),
    text=replace(PRESET.model.text, length=LENGTH),
)
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def model(published, tmp_path_factory):
    """What the pipeline becomes, once it was saved and loaded."""
    return imported(published, TEMPLATE, tmp_path_factory)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_the_model_draws_what_the_pipeline_draws(model, published, guidance):
    pipeline = opened(published)
    noise, expected = drawn_by(pipeline, model, guidance, "latent")
    codes = model.latents.encode(torch.from_numpy(np.array(image(SIZE)))[None])
    denoise = model.guided(model.condition(codes[None], [SENTENCE]), LinearGuidance(guidance, guidance))
    start = Joint(noise.transpose(1, 2)[:, 1:] * FIRST, torch.zeros(1, 8, 0))
    ours = euler.sample(denoise, start, Levels.same(levels())).video
    assert expected[:, :, 1:].std() > 0.1
    torch.testing.assert_close(ours.transpose(1, 2), expected[:, :, 1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(expected[:, :, 0], model.latents.condition(codes), rtol=0, atol=1e-5)
    frames = drawn_by(pipeline, model, guidance, "pt")[1]
    shown = model.decode(ours, codes[None])[0, 0].permute(0, 3, 1, 2) / 255
    assert (shown - frames[0, 1:]).abs().max() < 0.01


def test_guidance_changes_what_is_drawn(model, published):
    plain, guided = (drawn_by(opened(published), model, scale, "latent")[1] for scale in (1.0, 3.0))
    assert (plain - guided).abs().max() > 0.01


def test_the_text_is_the_pipelines(model, published, monkeypatch):
    # It mends broken encodings, of which there are none here, by a package that need not be installed.
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", lambda text: text)
    told, nothing = opened(published).encode_prompt(SENTENCE, "", max_sequence_length=LENGTH)
    torch.testing.assert_close(model.text([SENTENCE]), told, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.backbone.empty_prompt, nothing[0, 0], rtol=0, atol=1e-5)
    assert not nothing[0, 1:].any()


@torch.no_grad()
def test_an_export_opens_as_a_pipeline_and_draws_the_same(model, published, tmp_path):
    export(model, tmp_path / "out")
    alone, pipeline = opened(tmp_path / "out", text_encoder=None, tokenizer=None), opened(published)
    assert alone.text_encoder is None and alone.config.expand_timesteps
    for kind in ("transformer", "vae"):
        ours, theirs = dict(getattr(alone, kind).config), dict(getattr(pipeline, kind).config)
        assert {name: value for name, value in ours.items() if name[0] != "_"} == {
            name: value for name, value in theirs.items() if name[0] != "_"
        }
    again = drawn_by(alone, model, 3.0, "pt")[1]
    torch.testing.assert_close(again, drawn_by(pipeline, model, 3.0, "pt")[1], rtol=0, atol=0)


def authors_file(published, path, prefix=""):
    """The transformer under the names that its authors gave it, as one file."""
    net = load_file(published / "transformer" / FILE)
    save_file({prefix + theirs: net[ours] for ours, theirs in wan.FAMILY.original(net).items()}, path)
    return net


def test_the_authors_names_are_those_that_diffusers_knows(published, tmp_path):
    net = authors_file(published, tmp_path / "wan.safetensors")
    back = convert_wan_transformer_to_diffusers(load_file(tmp_path / "wan.safetensors"))
    assert back.keys() == net.keys() and all(torch.equal(back[name], net[name]) for name in net)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_single_file_becomes_the_same_model(model, published, tmp_path, prefix):
    net = authors_file(published, tmp_path / "wan.safetensors", prefix)
    ported = convert(str(tmp_path / "wan.safetensors"), TEMPLATE, text=str(published), vae=str(published))
    expected, found = model.state_dict(), ported.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert ported.model.config.backbone == model.config.backbone
    assert ported.rows[0].tensors == len(net)
    assert ported.license[0] == "apache-2.0"


def change(published, tmp_path, edit):
    """The single file with its weights changed."""
    authors_file(published, tmp_path / "wan.safetensors")
    held = load_file(tmp_path / "wan.safetensors")
    edit(held)
    save_file(held, tmp_path / "wan.safetensors")
    return tmp_path / "wan.safetensors"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda held: held.pop("blocks.1.ffn.2.bias"), "blocks.1.ffn.2.bias is missing"),
        (lambda held: held.update(more=torch.zeros(1)), "more does not belong there"),
        (lambda held: held.update({"blocks.0.modulation": torch.zeros(1, 5, 24)}), "blocks.0.modulation is 1 x 5 x 24"),
        (lambda held: held.pop("patch_embedding.weight"), "patch_embedding.weight is missing"),
        (
            lambda held: held.update({"patch_embedding.weight": torch.zeros(24, 12, 1, 2, 2)}),
            "12 channels in and 4 out, which is shown the current image on channels; import it for --preset wan_a14b",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(published, tmp_path, edit, message):
    path = change(published, tmp_path, edit)
    with pytest.raises(UserError, match=message) as refused:
        convert(str(path), TEMPLATE, text=str(published), vae=str(published))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 12}, "shown the current image on channels; import it for --preset wan_a14b"),
        ({"in_channels": 9}, "9 channels in and 4 out: the current image on channels makes 12 in"),
        ({"boundary": 0.9}, "draws with two networks, .* Wan2.2-I2V-A14B is imported for --preset wan_a14b"),
        ({"image_dim": 8, "added_kv_proj_dim": 24}, "reads tokens of images"),
        ({"in_channels": 6, "out_channels": 6}, "latents of 6 channels, but the autoencoder's have 4"),
        ({"patch_size": (2, 2, 2)}, "square ones of single frames"),
    ],
)
def test_transformers_of_another_kind_are_refused(published, tmp_path, changes, message):
    folder = write_pipeline(tmp_path / "other", **changes)
    with pytest.raises(UserError, match=message):
        convert(str(folder), TEMPLATE)


def test_the_autoencoder_of_another_generation_is_refused(published, tmp_path):
    path = tmp_path / "vae"
    replace(latents.EXAMPLE, mean=(0.0,) * 6, deviation=(1.0,) * 6).build().vae.save_pretrained(path)
    authors_file(published, tmp_path / "wan.safetensors")
    with pytest.raises(UserError, match="it is of another generation"):
        convert(str(tmp_path / "wan.safetensors"), TEMPLATE, text=str(published), vae=str(path))
