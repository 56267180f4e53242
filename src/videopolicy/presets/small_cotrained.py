"""Actions and video learnt side by side on one GPU (not measured yet): `cotrained` in the size of `small`."""

from dataclasses import replace

from videopolicy.presets import cotrained, small
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(small.PRESET.model, reads="present", sampling=cotrained.PRESET.model.sampling),
    training=replace(
        small.PRESET.training,
        stage=cotrained.PRESET.training.stage,
        video_share=cotrained.PRESET.training.video_share,
    ),
)
