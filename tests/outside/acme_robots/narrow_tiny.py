"""The tiny preset at 32 pixels, with the narrow U-Net: 8 million parameters."""

from dataclasses import replace

from acme_robots import narrow
from videopolicy.clips.windows import Window
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        views=("top",),
        size=32,
        window=Window(frames=2, stride=2, actions=8),
        backbone=narrow.Config(),
    ),
    training=replace(tiny.PRESET.training, batch_size=2, warmup=0, validation_episodes=0),
)
