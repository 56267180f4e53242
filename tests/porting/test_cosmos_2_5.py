"""A pipeline of Cosmos-Predict2.5 becomes a model that draws what the pipeline draws, and a pipeline again."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import Cosmos2_5_PredictBasePipeline
from safetensors.torch import load_file, save_file
from tests.cosmos import opened, opened_2_5, without_torchvision, write_pipeline, write_pipeline_2_5
from tests.porting.published import check_alike, check_pixels, guided, image, imported
from tests.porting.test_cosmos import SENTENCE, SIZE, STEPS, WEIGHTS
from tests.porting.test_cosmos import TEMPLATE as OF_2
from tests.text.reason1_folder import LENGTH, WIDTH

from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.errors import UserError
from videopolicy.porting import cosmos
from videopolicy.porting.convert import convert
from videopolicy.porting.export import export
from videopolicy.presets.cosmos25_2b import PRESET

TEMPLATE = replace(
    OF_2,
    backbone=replace(PRESET.model.backbone, head_channels=12, taps=(1,)),
    text=replace(PRESET.model.text, length=LENGTH),
    sampling=PRESET.model.sampling,
)


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without_torchvision(monkeypatch)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_pipeline_2_5(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def model(published, tmp_path_factory):
    """What the pipeline becomes, once it was saved and loaded."""
    return imported(published, TEMPLATE, tmp_path_factory)


@torch.no_grad()
def drawn_by(pipeline, model, guidance, kind):
    """What the pipeline draws of the model's text, behind the image as the one frame that it continues."""
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    told = model.text([SENTENCE])
    return noise, pipeline(
        video=[image(SIZE)], num_latent_conditional_frames=1, prompt_embeds=told,
        negative_prompt_embeds=torch.zeros_like(told), height=SIZE, width=SIZE, num_frames=9,
        num_inference_steps=STEPS, guidance_scale=guidance, latents=noise, output_type=kind,
    ).frames  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_the_model_draws_what_the_pipeline_draws(model, published, guidance):
    pipeline = opened_2_5(published, STEPS)
    noise, expected = drawn_by(pipeline, model, guidance, "latent")
    sampling = PRESET.model.sampling
    levels = schedule(STEPS, sampling.sigma_min, sampling.sigma_max)
    torch.testing.assert_close(pipeline.scheduler.sigmas, levels / (1 + levels))
    codes, denoise = guided(model, image(SIZE), SENTENCE, guidance)
    # The pipeline begins with noise alone at its first time, which is not quite 1.
    start = Joint(noise.transpose(1, 2)[:, 1:] * (1 + levels[0]), torch.zeros(1, 8, 0))
    ours = euler.sample(denoise, start, Levels.same(levels)).video
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.transpose(1, 2), expected[:, :, 1:], rtol=0, atol=1e-4)
    # There the current image keeps the little noise by which that time is short of 1.
    current = model.latents.condition(codes)[:, :, None]
    torch.testing.assert_close(expected[:, :, :1], current, rtol=0, atol=0.05)
    frames = drawn_by(pipeline, model, guidance, "pt")[1][0]
    check_pixels(model, expected, frames)


@torch.no_grad()
def test_text_is_the_pipelines_and_matters(model, published):
    """Guidance and other words change what is drawn; hidden words are zeros, as they were in training."""
    told, _ = opened_2_5(published, STEPS).encode_prompt(SENTENCE, "", max_sequence_length=LENGTH)
    torch.testing.assert_close(model.text([SENTENCE]), told, rtol=0, atol=1e-5)
    assert model.backbone.empty_prompt is None and "backbone.empty_prompt" not in model.state_dict()
    codes = model.latents.encode(torch.from_numpy(np.array(image(SIZE)))[None])
    video, sigma = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.ones(1)
    words, other, none = (model.condition(codes[None], [said]) for said in (SENTENCE, "open the drawer", ""))
    first, second, without, away = (
        model.backbone.denoise(video, sigma, given)[0] for given in (words, other, none, model.backbone.unguided(words))
    )
    assert torch.equal(without, away)
    for one, another in ((first, second), (first, without)):
        assert (one - another).abs().max() > 1e-4


@torch.no_grad()
def test_an_export_opens_as_a_pipeline_and_draws_the_same(model, published, tmp_path):
    export(model, tmp_path / "out")
    whole = opened(published, Cosmos2_5_PredictBasePipeline)
    out = opened(tmp_path / "out", Cosmos2_5_PredictBasePipeline, text_encoder=None, tokenizer=None)
    check_alike(out, whole)
    # By the scheduler that it is published with.
    _, again = drawn_by(out, model, 3.0, "latent")
    torch.testing.assert_close(again, drawn_by(whole, model, 3.0, "latent")[1], rtol=0, atol=1e-5)


def test_a_single_file_becomes_the_same_model(model, published, tmp_path):
    net = load_file(published / "transformer" / WEIGHTS)
    named = {f"net.{theirs}": net[ours] for ours, theirs in cosmos.PREDICT2_5.original(net).items()}
    assert "net.crossattn_proj.0.bias" in named
    save_file({**named, "net.accum_iteration": torch.zeros(1)}, tmp_path / "transformer.safetensors")
    file = str(tmp_path / "transformer.safetensors")
    ported = convert(file, TEMPLATE, text=str(published), vae=str(published))
    expected = model.state_dict()
    assert ported.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ported.model.state_dict().items())
    assert ported.model.config.backbone == model.config.backbone
    assert ported.model.config.text == replace(TEMPLATE.text, source=str(published), width=WIDTH)


def test_the_other_generation_is_for_its_own_preset(published, tmp_path):
    with pytest.raises(UserError, match=r"of Cosmos-Predict2\.5, which projects its text; .* --preset cosmos25_2b$"):
        convert(str(published), OF_2)
    older = write_pipeline(tmp_path / "older")
    with pytest.raises(UserError, match=r"of Cosmos-Predict2, which reads its text; .* --preset cosmos_2b$"):
        convert(str(older), TEMPLATE)


def test_an_encoder_that_does_not_fit_or_is_missing_is_told_at_once(tmp_path, monkeypatch):
    odd = write_pipeline_2_5(tmp_path / "odd", crossattn_proj_in_channels=32)
    with pytest.raises(UserError, match=rf"its tokens are {WIDTH} wide, the model's text is 32$"):
        convert(str(odd), TEMPLATE)
    with pytest.raises(UserError, match=r"describes a 'qwen2_5_vl', but text 't5' reads t5 or umt5$"):
        convert(str(write_pipeline(tmp_path / "older")), OF_2, text=str(odd))
    shutil.rmtree(odd / "text_encoder")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"post-trained: no such file.*nvidia/Cosmos-Predict2\.5-2B .*`hf auth login`"):
        convert(str(odd), TEMPLATE)
