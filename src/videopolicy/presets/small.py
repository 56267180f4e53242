"""One GPU (not measured yet): three views of 64 pixels, 8 frames 4 control steps apart, 55 million parameters."""

from dataclasses import replace

from videopolicy.backbones import unet
from videopolicy.clips.windows import Window
from videopolicy.latents import pca
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset
from videopolicy.text import hashed_words

BACKBONE = unet.Config(channels=(128, 256), attention=(True, True), layers=2, head_channels=32)

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        latents=pca.Config(channels=32),
        views=("gripperPOV", "corner2", "corner3"),
        window=Window(frames=8, stride=4, actions=32),
        pad=1,
        text=hashed_words.Config(),
        backbone=BACKBONE,
    ),
    training=replace(tiny.PRESET.training, steps=20_000, batch_size=64, lr=2e-4, head_lr=5e-4, warmup=500, copies=4),
)
