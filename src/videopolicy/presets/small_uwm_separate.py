"""One GPU (not measured yet): `uwm_separate` at the size of `small`, 55 million parameters."""

from dataclasses import replace

from videopolicy.presets import small, uwm_separate
from videopolicy.presets.base import Preset

_TINY = uwm_separate.PRESET

PRESET = Preset(
    model=replace(small.PRESET.model, sampling=_TINY.model.sampling, modes=_TINY.model.modes),
    training=replace(small.PRESET.training, noise=_TINY.training.noise, stage=_TINY.training.stage),
)
