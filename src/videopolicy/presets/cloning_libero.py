"""The baseline without video for LIBERO: `cloning` with views and words of `tiny_libero`, 7 million parameters."""

from dataclasses import replace

from videopolicy.presets import cloning, tiny_libero
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(cloning.PRESET.model, views=tiny_libero.PRESET.model.views, text=tiny_libero.PRESET.model.text),
    training=cloning.PRESET.training,
)
