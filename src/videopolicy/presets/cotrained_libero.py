"""LIBERO on two CPU cores: `cotrained` with the views, latents and words of `tiny_libero`, 8 million parameters."""

from dataclasses import replace

from videopolicy.presets import cotrained, tiny_libero
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(tiny_libero.PRESET.model, reads="present", sampling=cotrained.PRESET.model.sampling),
    training=cotrained.PRESET.training,
)
