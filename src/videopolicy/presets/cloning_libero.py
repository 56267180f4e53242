"""The baseline without video for LIBERO: `cloning` with views and words of `tiny_libero`, 7 million parameters."""

from dataclasses import replace

from videopolicy.latents import pca
from videopolicy.presets import cloning, tiny_libero
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        cloning.PRESET.model,
        views=tiny_libero.PRESET.model.views,
        latents=pca.Config(patch=2, channels=12),
        text=tiny_libero.PRESET.model.text,
    ),
    training=cloning.PRESET.training,
)
