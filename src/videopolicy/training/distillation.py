"""A trained policy as the teacher of one that acts in few steps (see `videopolicy.diffusion.distillation`)."""

from dataclasses import replace

import torch
from torch import nn

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.distillation import Path, lesson
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise import starts
from videopolicy.diffusion.noise.base import NoiseLaw
from videopolicy.errors import UserError
from videopolicy.models.base import Model, ModelConfig
from videopolicy.models.sampling import Sampling
from videopolicy.training.config import Training
from videopolicy.training.stages import Stage

# Steps of the teacher's path, over all of the student's: as many as it takes itself, and at least so many. Each is a
# pass without gradient. Eight leave a 25th of what one step is off by (experiments/distillation).
LEAST_STRIDES = 8


class Teacher(nn.Module):
    """A frozen policy, with its guidance, whose path of many steps a student learns to take in few."""

    def __init__(self, model: Model, steps: int) -> None:
        """Freezes a policy, in place.

        Args:
            model: the policy.
            steps: the student's.
        """
        super().__init__()
        self.model = model.requires_grad_(False)
        sampling, strides = model.config.sampling, _strides(model.config.sampling)
        self._path = Path(sampling.sigma_min, sampling.sigma_max, segments=steps, strides=-(-strides // steps))

    @torch.no_grad()
    def lesson(self, clean: Joint, noise: Joint, levels: Levels, condition: Condition) -> tuple[Joint, Joint]:
        """A noisy sample at these levels, (B,), and what the student must answer to it."""
        guided = self.model.guided(condition, self.model.config.sampling.guidance)
        return lesson(guided, clean, noise, levels, self._path)


def check(stage: Stage, teacher: Model | None) -> None:
    """Raises UserError if a stage needs a teacher and there is none that acts."""
    if stage.distills and not (teacher and teacher.acts):
        raise UserError(f"stage {stage.name!r} makes a trained policy faster; give it as --init")


def check_law(stage: Stage, teacher: Model, law: NoiseLaw | None) -> None:
    """Raises UserError if a teacher has never seen the levels of its path, by the law that it was trained by."""
    sampling = teacher.config.sampling
    path = schedule(_strides(sampling), sampling.sigma_min, sampling.sigma_max)[:-1]
    if stage.distills and law is not None and not law.covers(Levels.same(path)):
        raise UserError(
            f"stage {stage.name!r} follows video and actions at one noise level in {_strides(sampling)} steps, "
            "which the noise law of --init does not cover; begin from a policy of law 'joint' or 'independent'"
        )


def student(config: ModelConfig, steps: int) -> ModelConfig:
    """The teacher's shape, with the sampling of its student; its named ways to sample are not the student's."""
    return replace(config, sampling=config.sampling.distilled(steps), modes={})


def at_starts(training: Training, teacher: ModelConfig) -> Training:
    """The recipe at the levels that the student will be asked at."""
    sampling = teacher.sampling
    law = starts.Config(training.student_steps, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max)
    return replace(training, noise=law)


def _strides(sampling: Sampling) -> int:
    return max(sampling.steps, LEAST_STRIDES)
