"""Every preset of `tiny`'s size trains, is gone on with to the bit, and acts by what it saved."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.small import SIZE, VIEWS, observation, same, write_data

from videopolicy import checkpoint, registry
from videopolicy.diffusion.clocks import INVERSE_DYNAMICS
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.presets import tiny
from videopolicy.training.performance.benchmark import count_forward
from videopolicy.training.run import train

pytestmark = pytest.mark.slow
NAMES = [
    name for name in registry.names("presets") if registry.entry("presets", name).model.views == tiny.PRESET.model.views
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "data", episodes=3)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_goes_on_to_the_bit_and_acts(name, data, tmp_path):
    preset = registry.entry("presets", name)
    model = replace(preset.model, views=VIEWS, size=SIZE)
    training = replace(preset.training, steps=4, batch_size=4, save_every=2, validation_episodes=1, validate_every=4)
    whole = train(data, model, training, tmp_path / "whole", preset=name)
    half = shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(half / "state" / "step-000004")
    shutil.rmtree(half / "checkpoint")
    resumed = train(data, model, training, half, preset=name, resume=True)
    (first, told), (second, _) = checkpoint.load(whole), checkpoint.load(resumed)
    assert same(first, second) and told.steps == 4
    assert f"{told.stage}" in (whole / "README.md").read_text(encoding="utf-8")
    policy = CheckpointPolicy(first, model.sampling, law=told.noise)
    plan = policy.plan([observation()], [0], False)[0]
    assert plan.actions.shape == (model.window.actions, 2) and np.isfinite(plan.actions).all()
    assert count_forward(first, training.resolve(model.sampling.sigma_max)) > 0
    labels = model.sampling.clock_warnings(INVERSE_DYNAMICS, told.noise)
    warned = labels if first.reads_motion else model.sampling.warnings(told.noise)
    assert not warned, "it acts, or labels, where it was taught"
