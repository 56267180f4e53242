"""How long a training step takes, and how far that is from what the device can do."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from videopolicy.clips.dataset import ClipBatch
from videopolicy.clips.normalize import MinMax
from videopolicy.hardware import Timing, count_flops, peak_memory, seconds_of
from videopolicy.models.video_action import Config, VideoActionModel
from videopolicy.training.config import Training
from videopolicy.training.distributed import ProcessGroup, engine
from videopolicy.training.noise import draw
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


def measure(model: Config, training: Training, repeats: int, trace: Path | None = None) -> StepBenchmark:
    """Takes steps on random clips that lie in memory, after a few that are not counted.

    Args:
        model: the policy's shape; its weights are random.
        training: the recipe: stage, batch, precision and what else makes a step cheaper or dearer.
        repeats: steps that are counted, at least 1.
        trace: if given, one further step is profiled into this file, which chrome://tracing and Perfetto open.

    Raises:
        UserError: the device's memory does not hold a step.
    """
    policy = build(model, MinMax((-1.0,) * ACTION_WIDTH, (1.0,) * ACTION_WIDTH), training.seed)
    flops = training.batch * count_forward(policy, training)
    learner = TrainStep(Objective(policy, training), training, engine(training.precision), ProcessGroup())
    device, generator = learner.accelerator.device, torch.Generator().manual_seed(training.seed)
    batch = random_clips(policy, training.batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> None:
        learner.gradient(batch, draw(policy, training, training.batch, ACTION_WIDTH, generator))
        learner.update(1.0)

    for _ in range(WARM_UP):
        step()
    seconds = [seconds_of(step, device) for _ in tqdm(range(repeats), desc="training steps", leave=False)]
    if trace:
        _profile(step, device, trace)
    return StepBenchmark(training.batch, Timing.of(seconds), flops, peak_memory(device))


def count_forward(policy: VideoActionModel, training: Training) -> int:
    """Floating-point operations that training on one clip needs.

    Forward passes are counted (`videopolicy.hardware.count_flops`); a part that learns costs three of them.
    """
    objective = Objective(policy, replace(training, checkpoint_gradients=False))
    clip, generator = random_clips(policy, 1), torch.Generator().manual_seed(0)
    with torch.no_grad():
        condition = policy.condition(torch.from_numpy(clip.current).to(policy.device), clip.instructions)
        noise, sigma = policy.blank(1), torch.ones(1, device=policy.device)
        video = count_flops(partial(policy.denoise_video, noise.video, sigma, condition))
        both = count_flops(partial(objective, clip, generator))
    learns = 1 if training.stage == "action" else FORWARD_AND_BACKWARD
    return learns * video + FORWARD_AND_BACKWARD * (both - video)


def random_clips(policy: VideoActionModel, count: int) -> ClipBatch:
    """So many clips of a policy's shapes, all with actions."""
    config, rng = policy.config, np.random.default_rng(0)
    side = config.size // policy.latents.downsampling
    shape = (policy.latents.code_channels, side, side)
    views, frames = len(config.views), config.window.frames
    return ClipBatch(
        current=rng.normal(size=(count, views, *shape)).astype(np.float32),
        future=rng.normal(size=(count, views, frames, *shape)).astype(np.float32),
        actions=rng.uniform(-1, 1, (count, config.window.actions, policy.action_width)).astype(np.float32),
        has_actions=np.ones(count, bool),
        instructions=["go"] * count,
    )


def _profile(step: Callable[[], None], device: torch.device, path: Path) -> None:
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as profiler:
        seconds_of(step, device)
    profiler.export_chrome_trace(str(path))
