"""A pipeline of Cosmos-Predict2 becomes a model that draws what the pipeline draws, and a pipeline again."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_cosmos_transformer_checkpoint_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from safetensors.torch import load_file, save_file
from tests.cosmos import opened, without_torchvision, write_pipeline
from tests.porting.published import check_alike, check_pixels, guided, image, imported

from videopolicy.clips.windows import Window
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.errors import UserError
from videopolicy.latents import wan
from videopolicy.latents.wan_keys import original_names as vae_names
from videopolicy.porting import cosmos
from videopolicy.porting.convert import convert
from videopolicy.porting.export import export
from videopolicy.presets.cosmos_2b import PRESET

SIZE, STEPS, LENGTH = 32, 4, 12
SENTENCE = "press the red button"
TEMPLATE = replace(
    PRESET.model,
    views=("corner",),
    size=SIZE,
    window=Window(frames=8, stride=1, actions=8),
    backbone=replace(PRESET.model.backbone, head_channels=12, taps=(1,)),
    text=replace(PRESET.model.text, length=LENGTH),
)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without_torchvision(monkeypatch)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def model(published, tmp_path_factory):
    """What the pipeline becomes, once it was saved and loaded."""
    return imported(published, TEMPLATE, tmp_path_factory)


@torch.no_grad()
def drawn_by(pipeline, model, guidance, kind):
    """What the pipeline draws of the model's text."""
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    told = model.text([SENTENCE])
    nothing = torch.cat((model.backbone.empty_prompt.expand(1, 1, -1), torch.zeros(1, LENGTH - 1, 16)), 1)
    return noise, pipeline(
        image(SIZE), prompt_embeds=told, negative_prompt_embeds=nothing, height=SIZE, width=SIZE, num_frames=9,
        num_inference_steps=STEPS, guidance_scale=guidance, fps=16, latents=noise, output_type=kind,
    ).frames  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_the_model_draws_what_the_pipeline_draws(model, published, guidance):
    pipeline = opened(published)
    noise, expected = drawn_by(pipeline, model, guidance, "latent")
    levels = schedule(STEPS, 0.002, 80.0)
    torch.testing.assert_close(pipeline.scheduler.sigmas[:-1].float(), levels[:-1])
    codes, denoise = guided(model, image(SIZE), SENTENCE, guidance)
    start = Joint(noise.transpose(1, 2)[:, 1:] * 80, torch.zeros(1, 8, 0))
    # The pipeline's last level is that before it again: it stops there.
    ours = euler.sample(denoise, start, Levels.same(levels[:-1])).video
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.transpose(1, 2), expected[:, :, 1:], rtol=0, atol=1e-4)
    # There the current image, too, stays at that level.
    current = model.latents.condition(codes)[:, :, None]
    torch.testing.assert_close(expected[:, :, :1], current, rtol=0, atol=0.01)
    frames = drawn_by(pipeline, model, guidance, "pt")[1][0]
    check_pixels(model, expected, frames)


def test_the_text_is_the_pipelines(model, published):
    told, nothing = opened(published).encode_prompt(SENTENCE, "", max_sequence_length=LENGTH)
    torch.testing.assert_close(model.text([SENTENCE]), told, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.backbone.empty_prompt, nothing[0, 0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_export_opens_as_a_pipeline_and_draws_the_same(model, published, tmp_path):
    export(model, tmp_path / "out")
    alone, pipeline = opened(tmp_path / "out", text_encoder=None, tokenizer=None), opened(published)
    check_alike(alone, pipeline)
    _, again = drawn_by(alone, model, 3.0, "latent")
    torch.testing.assert_close(again, drawn_by(pipeline, model, 3.0, "latent")[1], rtol=0, atol=1e-5)


def authors_files(published, folder):
    """The transformer and the autoencoder under the names that their authors gave them, each as one file."""
    net, vae = (load_file(published / part / WEIGHTS) for part in ("transformer", "vae"))
    named = {f"net.{theirs}": net[ours] for ours, theirs in cosmos.PREDICT2.original(net).items()}
    named |= {"net.accum_iteration": torch.zeros(1), "net.pos_embedder.seq": torch.zeros(4)}
    named |= {"net.blocks.0.self_attn.q_norm._extra_state": torch.zeros(0)}
    coded = {theirs: vae[ours] for ours, theirs in vae_names(vae, averages=False, blocks=wan.BLOCKS).items()}
    save_file(named, folder / "transformer.safetensors")
    save_file(coded, folder / "vae.safetensors")
    return named, coded


def test_the_authors_names_are_those_that_diffusers_knows(published, tmp_path):
    named, coded = authors_files(published, tmp_path)
    assert convert_cosmos_transformer_checkpoint_to_diffusers(dict(named)).keys() == (
        load_file(published / "transformer" / WEIGHTS).keys()
    )
    # diffusers counts the blocks of a full-size decoder, four levels of three.
    with torch.device("meta"):
        full = wan.WAN_2_1.build().vae.state_dict()
    names = vae_names(full, averages=False, blocks=wan.BLOCKS)
    back = convert_wan_vae_to_diffusers({theirs: full[ours] for ours, theirs in names.items()})
    assert back.keys() == full.keys() and all(back[name] is full[name] for name in full)
    assert len(set(coded)) == len(load_file(published / "vae" / WEIGHTS))


def test_single_files_become_the_same_model(model, published, tmp_path):
    named, coded = authors_files(published, tmp_path)
    small = replace(wan.EXAMPLE, temporal=4)
    ported = convert(
        str(tmp_path / "transformer.safetensors"),
        replace(TEMPLATE, latents=small),
        text=str(published),
        vae=str(tmp_path / "vae.safetensors"),
    )
    expected = model.state_dict()
    assert ported.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ported.model.state_dict().items())
    assert ported.model.config.backbone == model.config.backbone
    assert [row.tensors for row in ported.rows] == [len(named) - 3, 3, len(coded), 0]
    assert ported.license == ("other", "NVIDIA Open Model License")


def test_weights_in_several_files_are_one(model, published, tmp_path):
    folder = write_pipeline(tmp_path / "several")
    part = folder / "transformer"
    whole = load_file(part / WEIGHTS)
    files = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(whole)}
    for file in set(files.values()):
        save_file({name: value for name, value in whole.items() if files[name] == file}, part / file)
    (part / WEIGHTS).unlink()
    (part / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": files}), encoding="utf-8")
    again = convert(str(folder), TEMPLATE).model.backbone.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.backbone.state_dict().items())
    (part / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": "../a"}}), encoding="utf-8")
    with pytest.raises(UserError, match="names files elsewhere"):
        convert(str(folder), TEMPLATE)
