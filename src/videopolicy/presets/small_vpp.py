"""VPP's law (Hu et al. 2024), as big as `small`: one GPU (not measured), 55 million parameters (see `vpp`)."""

from dataclasses import replace

from videopolicy.presets import small, vpp
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        small.PRESET.model,
        backbone=replace(small.BACKBONE, taps=vpp.BACKBONE.taps),
        sampling=vpp.PRESET.model.sampling,
    ),
    training=replace(small.PRESET.training, noise=vpp.PRESET.training.noise),
)
