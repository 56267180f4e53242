"""mimic-video's law (2025), as big as `small`: one GPU (not measured), 55 million parameters (see `mimic`).

With 8 latent frames instead of 2, the video's levels are twice as high.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import FlowTime, HighTail
from videopolicy.presets import mimic, small
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(small.PRESET.model, sampling=mimic.PRESET.model.sampling),
    training=replace(
        small.PRESET.training, noise=independent.Config(video=HighTail(1.04, 1.0), actions=FlowTime(alpha=1.5))
    ),
)
