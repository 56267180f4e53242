"""The method on Wan2.1-T2V-1.3B: three views of 256 pixels side by side, 1660 million parameters.

It is `wan_5b` on the smaller network, 1419 million parameters, and the latents of Wan 2.1. These are four times as many
a picture, so that it takes less than a third of the memory but no less time. Its weights never saw a clean first frame:
they learn from the data what the larger ones bring along. No run of this size has been made yet.
"""

from dataclasses import replace

from videopolicy.backbones import wan
from videopolicy.latents.wan import WAN_2_1
from videopolicy.presets import wan_5b

PRESET = replace(
    wan_5b.PRESET,
    model=replace(
        wan_5b.PRESET.model,
        latents=WAN_2_1,
        text=replace(wan_5b.PRESET.model.text, source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
        backbone=wan.T2V_1_3B,
    ),
)
