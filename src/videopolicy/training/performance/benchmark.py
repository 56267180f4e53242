"""How long a training step takes, and how far that is from what the device can do."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from videopolicy.clips.dataset import ClipBatch
from videopolicy.clips.normalize import Normalizer
from videopolicy.hardware import Timing, count_flops, peak_memory, seconds_of
from videopolicy.models.base import Model, ModelConfig
from videopolicy.progress import progress_bar
from videopolicy.training.config import Training
from videopolicy.training.distributed import ProcessGroup, engine
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective
from videopolicy.training.prepare import build
from videopolicy.training.step import TrainStep

WARM_UP = 3
# Of most arms: six for the hand's pose, one for the gripper.
ACTION_WIDTH = 7
# A backward pass costs twice the forward one: a product for the inputs' gradient, and one for the weights'.
FORWARD_AND_BACKWARD = 3


@dataclass(frozen=True)
class StepBenchmark:
    """Steps of a training, on clips in memory.

    Attributes:
        batch: clips a step, over all processes.
        step: time of a step.
        flops: of one step, as the model needs them; what gradient checkpointing computes again does not count.
        memory: bytes in use at most.
    """

    batch: int
    step: Timing
    flops: int
    memory: int

    @property
    def clips_per_second(self) -> float:
        """At the median time."""
        return self.batch * 1e3 / self.step.median

    @property
    def flops_per_second(self) -> float:
        """At the median time."""
        return self.flops * 1e3 / self.step.median


def measure(config: ModelConfig, training: Training, repeats: int, trace: Path | None = None) -> StepBenchmark:
    """Takes steps on random clips that lie in memory, after a few that are not counted.

    Args:
        config: the model's shape; its weights are random.
        training: the recipe: stage, batch, precision and what else makes a step cheaper or dearer.
        repeats: steps that are counted, at least 1.
        trace: if given, one further step is profiled into this file, which chrome://tracing and Perfetto open.

    Raises:
        UserError: the device's memory does not hold a step.
    """
    accelerator = engine(training.precision)
    model = build(config, Normalizer((-1.0,) * ACTION_WIDTH, (1.0,) * ACTION_WIDTH), training.seed)
    model.to(accelerator.device)
    training = training.resolve(config.sampling.sigma_max)
    flops = training.batch_size * count_forward(model, training)
    train_step = TrainStep(Objective(model, training), training, accelerator, ProcessGroup())
    device, steps = train_step.accelerator.device, count()
    batch = random_clips(model, training.batch_size)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> None:
        train_step.gradient(batch, draw_noise(model, training, batch, generator_of(training.seed, next(steps))))
        train_step.update(1.0)

    for _ in range(WARM_UP):
        step()
    seconds = [seconds_of(step, device) for _ in progress_bar(range(repeats), desc="training steps", leave=False)]
    if trace:
        _profile(step, device, trace)
    return StepBenchmark(training.batch_size, Timing.of(seconds), flops, peak_memory(device))


def count_forward(model: Model, training: Training) -> int:
    """Floating-point operations that training on one clip needs.

    Forward passes are counted (`videopolicy.hardware.count_flops`); a part that learns costs three of them.
    """
    objective = Objective(model, replace(training, gradient_checkpointing=False))
    # The counter follows gradients from module to module, and stumbles over weights that a module hands on as they are.
    objective.requires_grad_(False)
    clip = random_clips(model, 1)
    drawn = draw_noise(model, training, clip, generator_of(0, 0))
    with torch.no_grad():
        condition = model.condition(torch.from_numpy(clip.current).to(model.device), clip.instructions)
        noise, sigma = model.blank(1), torch.ones(1, device=model.device)
        video = count_flops(partial(model.backbone.denoise, noise.video, sigma, condition))
        both = count_flops(partial(objective, clip, drawn))
    learns = FORWARD_AND_BACKWARD if training.stage.trains_video else 1
    # Where the head reads another noise level than the video is learnt at, each has a pass of its own.
    video *= 1 if drawn.levels.features is None else 2
    return learns * video + FORWARD_AND_BACKWARD * (both - video)


def random_clips(model: Model, clips: int) -> ClipBatch:
    """So many clips of a model's shapes, all with actions."""
    config, rng = model.config, np.random.default_rng(0)
    side = config.size // model.latents.downsampling
    shape = (model.latents.code_channels, side, side)
    views, frames = len(config.views), config.latent_frames
    return ClipBatch(
        current=rng.normal(size=(clips, views, *shape)).astype(np.float32),
        future=rng.normal(size=(clips, views, frames, *shape)).astype(np.float32),
        actions=rng.uniform(-1, 1, (clips, config.window.actions, model.action_width)).astype(np.float32),
        has_actions=np.ones(clips, bool),
        instructions=["go"] * clips,
        state=np.zeros((clips, config.state_width), np.float32) if config.proprioception else None,
    )


def _profile(step: Callable[[], None], device: torch.device, path: Path) -> None:
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as profiler:
        seconds_of(step, device)
    profiler.export_chrome_trace(str(path))
