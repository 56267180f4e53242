"""Inverse dynamics that were learnt for a minute, in an env in which motion is all that there is to see."""

from dataclasses import replace

import numpy as np
import pytest
from tests.models.examples.unified import example
from tests.small import TRAINING, write_data

from videopolicy.checkpoint import load
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.labelling.label import label
from videopolicy.labelling.reader import ActionReader
from videopolicy.latents import pca
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.training.run import train
from videopolicy.training.stages import ATTACHED

# Video is mostly clean, as inverse dynamics want it.
LAW = independent.Config(LogNormal(-2.0, 1.5), LogNormal(0.0, 1.57))


@pytest.mark.slow
def test_actions_read_from_video_are_nearer_to_the_executed_ones_than_their_mean(tmp_path):
    recipe = replace(
        TRAINING, steps=500, batch_size=16, lr=2e-3, head_lr=2e-3, warmup=20, ema_decay=0.98, noise=LAW,
        stage=ATTACHED, log_every=500, validation_episodes=0, normalize="std",
    )  # fmt: skip
    data = write_data(tmp_path / "data", episodes=28)
    listed = tmp_path / "list.toml"
    listed.write_text(f'[[data]]\npath = "{data}"\nactions_of = {list(range(24))}\n', encoding="utf-8")
    model = replace(example, latents=pca.Config(channels=16), sampling=Sampling(steps=5, sigma_max=10))
    policy = CheckpointPolicy(load(train([listed], model, recipe, tmp_path / "run"))[0], model.sampling)
    label(listed, None, ActionReader(policy, draws=2, seed=0), "run", tmp_path / "out", 1, ())
    written, recorded = open_dataset(tmp_path / "out"), open_dataset(data)
    read = np.concatenate([written.episode(index, ()).actions for index in range(24, 28)])
    done = np.concatenate([recorded.episode(index, ()).actions for index in range(24, 28)])
    explained = 1 - ((read - done) ** 2).mean() / ((done - done.mean(0)) ** 2).mean()
    assert explained > 0.3
