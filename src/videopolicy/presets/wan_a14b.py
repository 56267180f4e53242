"""The method on Wan2.2-I2V-A14B: three views of 256 pixels side by side, 28822 million parameters.

It is `wan_5b` on two networks of 14289 million parameters, of which one pass runs one: the first at high noise levels,
and so for a plan, the second below flow time 0.9. They are shown the current images on channels, and draw them, too.
The latents are those of Wan 2.1, four times as many a picture. Its tap is the output of block 26 of 40, as deep as that
of `wan_5b`. No run of this size has been made yet.
"""

from dataclasses import replace

from videopolicy.backbones import wan
from videopolicy.latents.wan import WAN_2_1
from videopolicy.presets import wan_5b

PRESET = replace(
    wan_5b.PRESET,
    model=replace(
        wan_5b.PRESET.model,
        # Behind an image, as many grey frames as the future has latents.
        latents=replace(WAN_2_1, grey=wan.I2V_A14B.grey),
        text=replace(wan_5b.PRESET.model.text, source="Wan-AI/Wan2.2-I2V-A14B-Diffusers"),
        backbone=wan.I2V_A14B,
    ),
)
