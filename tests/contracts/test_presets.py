"""What every file in `videopolicy/presets` must keep. Networks are built without memory for their weights."""

import re
from importlib import import_module

import pytest
import torch

from videopolicy import registry
from videopolicy.clips.normalize import MinMax
from videopolicy.envs.metaworld import INSTRUCTIONS
from videopolicy.models.video_action import Config
from videopolicy.presets.base import Preset
from videopolicy.training.config import Training
from videopolicy.training.loop import lr_factor

WIDTH = 7


@pytest.fixture(params=registry.names("presets"), scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def preset(name):
    return registry.entry("presets", name)


@pytest.fixture(scope="module")
def policy(preset):
    with torch.device("meta"):
        built = preset.model.build(MinMax((-1.0,) * WIDTH, (1.0,) * WIDTH))
    # Some of diffusers' scalars are made where no context reaches.
    return built.to("meta")


def test_it_is_a_model_and_a_recipe(preset):
    assert isinstance(preset, Preset)
    assert isinstance(preset.model, Config) and isinstance(preset.training, Training)
    hash(preset)


def test_its_parts_fit_together(preset, policy):
    config = preset.model
    assert config.size % policy.latents.downsampling == 0
    assert 1 <= config.execute <= config.window.actions
    assert len(set(config.views)) == len(config.views) > 0
    assert config.sampling.sampler in registry.names("samplers")
    with torch.device("meta"):
        blank = policy.blank(2)
        codes = torch.zeros(2, len(config.views), policy.latents.code_channels, *blank.video.shape[-2:])
        condition = policy.condition(codes, ["", ""])
        sigma = torch.ones(2)
        video, features = policy.denoise_video(blank.video, sigma, condition)
        actions = policy.denoise_actions(blank.actions, sigma, policy.read(features, sigma))
    assert video.shape == blank.video.shape and video.shape[1] == config.flat_frames
    assert actions.shape == (2, config.window.actions, WIDTH)


def test_its_first_line_tells_the_number_of_parameters(name, policy):
    said = re.search(r"(\d+) million", import_module(f"videopolicy.presets.{name}").__doc__)
    counted = sum(parameter.numel() for parameter in policy.parameters()) / 1e6
    assert said and abs(int(said[1]) - counted) < 1, f"{counted:.1f} million"


def test_its_recipe_can_be_followed(preset):
    training = preset.training
    assert 0 <= training.warmup < training.steps
    warmup, decay = training.warmup, training.decay
    rates = [lr_factor(step / training.steps, step, warmup, decay) for step in range(training.steps)]
    assert max(rates) > 0.95
    assert rates[-1] < 0.01 if decay else rates[-1] == 1
    assert 0 < training.ema < 1 and training.batch > 0


@pytest.mark.parametrize("name", ["tiny", "small", "cloning"])
def test_every_instruction_of_metaworld_fits(name):
    text = registry.entry("presets", name).model.text.build()
    assert len(text(list(INSTRUCTIONS.values()))) == 50
