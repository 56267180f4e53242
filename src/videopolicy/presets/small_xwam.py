"""X-WAM's law (2026), as big as `small`: one GPU (not measured), 55 million parameters (see `xwam`)."""

from dataclasses import replace

from videopolicy.presets import small, xwam
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(small.PRESET.model, sampling=xwam.PRESET.model.sampling),
    training=replace(small.PRESET.training, noise=xwam.PRESET.training.noise),
)
