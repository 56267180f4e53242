"""VPP's law and head on one GPU (not measured yet): `vpp_former` in the size of `small`, 54 million parameters.

What deviates from Hu et al. 2024 is told in `vpp_former`.
"""

from dataclasses import replace

from videopolicy.heads import video_former
from videopolicy.presets import small, vpp_former
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(small.PRESET.model, head=video_former.Config(), sampling=vpp_former.PRESET.model.sampling),
    training=replace(small.PRESET.training, noise=vpp_former.PRESET.training.noise),
)
