"""What every preset must keep. Networks are built without memory for their weights."""

import re

import pytest
import torch
from tests.contracts.plugins import skip_unless_it_can_run

from videopolicy import registry
from videopolicy.clips.normalize import Normalizer
from videopolicy.diffusion.joint import Levels
from videopolicy.envs.metaworld import INSTRUCTIONS
from videopolicy.models.base import ModelConfig
from videopolicy.presets.base import Preset
from videopolicy.training.config import Training
from videopolicy.training.loop import lr_factor

WIDTH = 7


@pytest.fixture(params=registry.names("presets"), scope="module")
def name(request):
    skip_unless_it_can_run("presets", request.param)
    return request.param


@pytest.fixture(scope="module")
def preset(name):
    return registry.entry("presets", name)


@pytest.fixture(scope="module")
def model(preset):
    with torch.device("meta"):
        built = preset.model.build(Normalizer((-1.0,) * WIDTH, (1.0,) * WIDTH))
    # Some of diffusers' scalars are made where no context reaches.
    return built.to("meta")


def test_it_is_a_model_and_a_recipe(preset):
    assert isinstance(preset, Preset)
    assert isinstance(preset.model, ModelConfig) and isinstance(preset.training, Training)
    hash(preset)


def test_its_parts_fit_together(preset, model):
    config = preset.model
    assert config.size % model.latents.downsampling == 0
    assert 1 <= config.execute <= config.window.actions
    assert len(set(config.views)) == len(config.views) > 0
    assert config.sampling.sampler in registry.names("samplers")
    with torch.device("meta"):
        blank = model.blank(2)
        codes = torch.zeros(2, len(config.views), model.latents.code_channels, *blank.video.shape[-2:])
        denoised = model.denoise(blank, Levels.same(torch.ones(2)), model.condition(codes, ["", ""]))
    assert denoised.video.shape == blank.video.shape
    assert denoised.actions.shape == (2, config.window.actions, WIDTH)


def test_its_first_line_tells_the_number_of_parameters(name, model):
    said = re.search(r"(\d+) million", registry.module("presets", name).__doc__)
    counted = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert said and abs(int(said[1]) - counted) < 1, f"{counted:.1f} million"


def test_its_recipe_can_be_followed(preset):
    training = preset.training
    assert 0 <= training.warmup < training.steps
    warmup, decay = training.warmup, training.decay
    rates = [lr_factor(step / training.steps, step, warmup, decay) for step in range(training.steps)]
    assert max(rates) > 0.95
    assert rates[-1] < 0.01 if decay else rates[-1] == 1
    assert 0 < training.ema_decay < 1 and training.batch_size > 0


@pytest.mark.parametrize("name", ["tiny", "small", "cloning"])
def test_every_instruction_of_metaworld_fits(name):
    text = registry.entry("presets", name).model.text.build()
    assert len(text(list(INSTRUCTIONS.values()))) == 50
