"""DreamZero-Flash's law (Ye et al. 2026), as big as `small`: one GPU, 55 million parameters (see `flash`)."""

from dataclasses import replace

from videopolicy.presets import flash, small
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(small.PRESET.model, sampling=flash.PRESET.model.sampling),
    training=replace(small.PRESET.training, noise=flash.PRESET.training.noise),
)
