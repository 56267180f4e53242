"""LingBot-VA's law (2026), as big as `small`: one GPU (not measured), 55 million parameters (see `lingbot`)."""

from dataclasses import replace

from videopolicy.presets import lingbot, small
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(small.PRESET.model, sampling=lingbot.PRESET.model.sampling),
    training=replace(small.PRESET.training, noise=lingbot.PRESET.training.noise),
)
