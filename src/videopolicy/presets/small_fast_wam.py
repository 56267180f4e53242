"""Fast-WAM on one GPU (not measured yet): `fast_wam` in the size of `small`, 54 million parameters.

What deviates from Yuan et al. 2026 is told in `fast_wam`.
"""

from dataclasses import replace

from videopolicy.presets import fast_wam, small
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(small.PRESET.model, reads="present", sampling=fast_wam.PRESET.model.sampling),
    training=replace(small.PRESET.training, stage=fast_wam.PRESET.training.stage, noise=fast_wam.PRESET.training.noise),
)
