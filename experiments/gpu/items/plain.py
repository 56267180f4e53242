"""Acting as one writes it at first: half precision, one guidance branch after the other, step by step."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.edm import Scaling, schedule
from videopolicy.diffusion.joint import Joint
from videopolicy.models.base import Model
from videopolicy.types import Observation

# Of the video and of the vector that the head reads.
Look = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PlainLoop:
    """Euler's method over the modules of a `VideoActionModel`; nothing else of this project acts here.

    Attributes:
        model: its weights are in half precision, its latents in float32.
        steps: noise levels.
        levels: the lowest and the highest.
        once: whether the video model runs at the first level alone.
    """

    model: Any
    steps: int
    levels: tuple[float, float]
    once: bool

    def chunk(self, seen: Observation, guidance: tuple[float, float]) -> Joint:
        """Video and actions for one observation, from the noise that seed 0 draws for a policy."""
        model: Model = self.model
        images = np.stack([seen.images[view] for view in model.config.views])
        codes = model.latents.encode(torch.from_numpy(images).to(model.device))[None]
        condition = model.condition(codes, [seen.instruction])
        branches = (condition.to(model.dtype), condition.unconditional().to(model.dtype))
        sigmas = schedule(self.steps, *self.levels).to(model.device)
        x = self._start(sigmas[0])
        scale = Joint(_ramp(guidance, x.video)[None, :, None, None, None], _ramp(guidance, x.actions)[None, :, None])
        looks = [self._look(x.video, sigmas[0], branch) for branch in branches]
        for index, (now, after) in enumerate(pairwise(sigmas)):
            if index and not self.once:
                looks = [self._look(x.video, now, branch) for branch in branches]
            with_it, without = (Joint(video, self._act(x.actions, now, vector)) for video, vector in looks)
            guess = without + scale * (with_it - without)
            x = x + (x - guess) * ((after - now) / now)
        return x

    def _start(self, sigma: Tensor) -> Joint:
        blank = self.model.blank(1).map(Tensor.cpu)
        noise = Joint.randn_like(blank, torch.Generator().manual_seed(0))
        return noise.map(lambda part: part.to(sigma.device)) * (1 + sigma**2).sqrt()

    def _look(self, video: Tensor, sigma: Tensor, condition: Condition) -> Look:
        by, model = Scaling()(sigma), self.model
        out, features = model.backbone((video * by.inp).to(model.dtype), condition, by.noise[None])
        taps = tuple(model.unflatten(tap) for tap in features.taps)
        return by.skip * video + by.out * out.float(), model.head.adapt(
            taps, model.backbone.embed_noise(by.noise[None])
        )

    def _act(self, actions: Tensor, sigma: Tensor, vector: Tensor) -> Tensor:
        by, model = Scaling()(sigma), self.model
        time = model.backbone.embed_noise(by.noise[None])
        out = model.head((actions * by.inp).to(model.dtype), vector, time)
        return by.skip * actions + by.out * out.float()


def _ramp(guidance: tuple[float, float], part: Tensor) -> Tensor:
    return torch.linspace(*guidance, part.shape[1], device=part.device)
