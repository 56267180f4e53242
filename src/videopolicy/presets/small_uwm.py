"""One GPU (not measured yet): `uwm` at the size of `small`, 55 million parameters; it deviates as `uwm` does."""

from dataclasses import replace

from videopolicy.models import unified
from videopolicy.presets import small_uwm_separate

PRESET = replace(small_uwm_separate.PRESET, model=unified.Config.of(small_uwm_separate.PRESET.model))
