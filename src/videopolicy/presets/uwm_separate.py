"""The cheaper control of `uwm`, whose noisy actions do not enter the video model: `tiny`, 8 million parameters.

Of UWM's modes (Zhu et al. 2025, arXiv 2504.02792) it lacks forward dynamics alone, and it acts by one look at a video
of pure noise, where `uwm` runs the whole network at every step. It is `tiny` by independent noise levels, and deviates
from the original as `uwm` does, and in that path.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset
from videopolicy.training.stages import ATTACHED

STEPS = 10
# UWM draws t evenly on a squared cosine schedule: sigma = tan(pi t / 2), whose logarithm has this mean and deviation.
LEVELS = LogNormal(0.0, 1.57)

_MODEL, _TRAINING = tiny.PRESET.model, tiny.PRESET.training

PRESET = Preset(
    model=replace(
        _MODEL,
        sampling=replace(_MODEL.sampling, sampler="one_pass", steps=STEPS),
        modes={"joint": replace(_MODEL.sampling, steps=STEPS)},
    ),
    training=replace(_TRAINING, noise=independent.Config(LEVELS, LEVELS), stage=ATTACHED),
)
