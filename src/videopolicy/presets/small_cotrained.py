"""Actions and video side by side on one GPU (not measured yet): `cotrained`, 58 million parameters."""

from dataclasses import replace

from videopolicy.backbones import encoded, images
from videopolicy.latents import pca
from videopolicy.presets import cotrained, small
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        small.PRESET.model,
        reads="present",
        latents=pca.Config(channels=32, pixels=True),
        backbone=encoded.Config(images.Config(channels=(64, 128, 256)), video=replace(small.BACKBONE, taps=())),
        sampling=cotrained.PRESET.model.sampling,
    ),
    training=replace(
        small.PRESET.training,
        stage=cotrained.PRESET.training.stage,
        video_share=cotrained.PRESET.training.video_share,
    ),
)
