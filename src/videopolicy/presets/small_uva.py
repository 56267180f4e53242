"""UVA (Li et al. 2025, arXiv 2503.00200) on one GPU: `small` with masked latents, 56 million parameters.

Its deviations are those of `uva`.
"""

from dataclasses import replace

from videopolicy.models import masked
from videopolicy.presets import small, uva
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=masked.Config.of(small.PRESET.model, sampling=uva.SAMPLING),
    training=replace(small.PRESET.training, stage=uva.PRESET.training.stage, noise=uva.PRESET.training.noise),
)
