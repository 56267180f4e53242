"""LIBERO on two CPU cores: `cotrained` with the views and words of `tiny_libero`, 9 million parameters."""

from dataclasses import replace

from videopolicy.latents import pca
from videopolicy.presets import cotrained, tiny_libero
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        cotrained.PRESET.model,
        views=tiny_libero.PRESET.model.views,
        window=tiny_libero.PRESET.model.window,
        latents=pca.Config(channels=32, pixels=True),
        text=tiny_libero.PRESET.model.text,
    ),
    training=cotrained.PRESET.training,
)
