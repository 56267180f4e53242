"""A model with all parts of the real ones, so small that it trains on the point-mass env within a test."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from videopolicy import registry
from videopolicy.backbones import images, unet
from videopolicy.clips.dataset import ClipBatch
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.windows import Window
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.heads import unet1d
from videopolicy.heads.adapter import AdapterConfig
from videopolicy.latents import pca
from videopolicy.models.base import Model, ModelConfig
from videopolicy.models.video_action import Config
from videopolicy.rollout.demonstrate import record_episode
from videopolicy.text import hashed_words
from videopolicy.training.config import Training
from videopolicy.training.prepare import build
from videopolicy.types import Observation

SIZE = 32
VIEWS = ("top",)
# Every instruction of the point-mass env has four words.
MODEL = Config(
    views=VIEWS,
    size=SIZE,
    window=Window(frames=2, stride=2, actions=8),
    latents=pca.Config(channels=6),
    text=hashed_words.Config(width=16, buckets=64, length=4),
    backbone=unet.Config(channels=(32, 32), attention=(False, True), id_width=8),
    head=unet1d.Config(
        channels=(16, 32),
        kernel=3,
        time_width=16,
        adapter=AdapterConfig(size=4, tap_channels=8, channels=(16, 8), width=32),
    ),
    execute=4,
)
# Changes that make of it the baseline without video.
CLONING = {
    "window": MODEL.window.reaching(0),
    "latents": pca.Config(patch=2, channels=12),
    "backbone": images.Config(channels=(8, 16), blocks=1),
}
# And of one that reads actions from what moves in a given video.
MOTION = {**CLONING, "window": MODEL.window, "residual": True, "reads": "motion"}
TRAINING = Training(steps=4, batch_size=4, warmup=2, ema_decay=0.9, log_every=1, validate_every=1000, save_every=1000)
NORMALIZER = Normalizer((-1.0, -0.5), (1.0, 2.0))
# An arm whose actions are learnt as seen from where the gripper is.
ARM = {"action_layout": "position axis_angle gripper[-1,1]", "state_layout": "position quaternion", "relative": True}
ARM_NORMALIZER = Normalizer((-0.1,) * 3 + (-1.0,) * 7, (0.2,) * 3 + (1.0,) * 7)


def small_model(normalizer: Normalizer | None = NORMALIZER, seed: int = 0, **changes) -> Model:
    """Random weights; latents fitted to pictures of the env."""
    return fitted(replace(MODEL, **changes), normalizer, seed)


def fitted(config: ModelConfig, normalizer: Normalizer | None = NORMALIZER, seed: int = 0) -> Model:
    """Random weights of any model; latents fitted to pictures of the env."""
    built = build(config, normalizer, seed)
    built.latents.fit(np.stack(list(observation(seed=1, size=built.config.size).images.values())))
    return built.eval()


def relative_model(**changes) -> Model:
    """Random weights that act as `ARM`."""
    return small_model(ARM_NORMALIZER, **ARM, **changes)


def observation(seed: int = 0, size: int = SIZE, task: str = "reach-red") -> Observation:
    """What the env shows at the start of an episode, in both its views."""
    env = registry.build("envs", "pointmass", task, size=size)
    env.reset(seed=seed)
    return env.observe()


def batch(model: Model, size: int = 3, seed: int = 0, has_actions: bool = True) -> ClipBatch:
    """Random clips of the right shapes."""
    rng = np.random.default_rng(seed)
    config, side = model.config, model.config.size // model.latents.downsampling
    codes = (model.latents.code_channels, side, side)
    views, frames = len(config.views), config.latent_frames
    return ClipBatch(
        current=rng.normal(size=(size, views, *codes)).astype(np.float32),
        future=rng.normal(size=(size, views, frames, *codes)).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, config.window.actions, model.action_width)).astype(np.float32),
        has_actions=np.full(size, has_actions),
        instructions=["reach the red disc", "reach the blue disc", "press"][:size],
    )


def write_data(path: Path, episodes: int = 4, size: int = SIZE, steps: int = 16) -> Path:
    """Demonstrations of the point-mass env's expert, half of either task, in the project's own format."""
    with Writer(path, 20, ("top", "close")) as writer:
        for seed in range(episodes):
            env = registry.build("envs", "pointmass", ("reach-red", "reach-blue")[seed % 2], size=size)
            writer.add(record_episode(env, seed, noise=0.1, steps=steps))
    return path


class Partly:
    """A data set, some of whose episodes are shown without their actions."""

    def __init__(self, inner: Dataset, without: set[int]) -> None:
        self.inner, self.without = inner, without
        self.path, self.views, self.fps, self.tasks = inner.path, inner.views, inner.fps, inner.tasks
        self.state_width, self.notes = inner.state_width, inner.notes
        self.action_layout, self.state_layout = inner.action_layout, inner.state_layout
        self.action_width = None if len(without) == len(inner) else inner.action_width
        self.fingerprint = f"{inner.fingerprint} without {sorted(without)}"

    def __len__(self) -> int:
        return len(self.inner)

    def number(self, index: int) -> int:
        return self.inner.number(index)

    def length(self, index: int) -> int:
        return self.inner.length(index)

    def episode(self, index: int, views=None, start=0, stop=None):
        episode = self.inner.episode(index, views, start, stop)
        return replace(episode, actions=None) if index in self.without else episode


def same(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two modules hold the same numbers, to the bit."""
    first, second = model.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
