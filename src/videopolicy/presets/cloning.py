"""The baseline without video, on two CPU cores: behaviour cloning from one view of 64 pixels, 7 million parameters.

The head, the data and the recipe are those of `tiny`; the encoder sees the current images alone, whole: all principal
components of 2x2 patches are an invertible map of the pixels.
"""

from dataclasses import replace

from videopolicy.backbones import images
from videopolicy.latents import pca
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset
from videopolicy.training.stages import END_TO_END

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        window=tiny.PRESET.model.window.reaching(0),
        residual=False,
        latents=pca.Config(patch=2, channels=12, still=True),
        backbone=images.Config(),
    ),
    training=replace(tiny.PRESET.training, stage=END_TO_END),
)
