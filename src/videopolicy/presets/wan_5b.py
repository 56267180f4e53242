"""The method on Wan2.2-TI2V-5B: three views of 256 pixels side by side, 5820 million parameters.

The video transformer has 5000 million of them, the head 115; Wan 2.2's autoencoder, frozen, has the others. UMT5-XXL
reads the instructions, each once. It starts from pretrained weights: see `videopolicy import --preset wan_5b`, and
docs/backbones.md for memory and time. No run of this size has been made yet.

It is `cosmos_2b` on another network and by other levels of the video: flow times drawn evenly, at shift 5, as Fast-WAM
(Yuan et al. 2026, arXiv 2603.16666) and X-WAM (2026, arXiv 2604.26694) train this one. Its tap is the output of block
19 of 30, as deep as the block of Cosmos-Predict2 that is read there.
"""

from dataclasses import replace

from videopolicy.backbones import wan
from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import FlowTime
from videopolicy.latents.wan import WAN_2_2
from videopolicy.presets import cosmos_2b
from videopolicy.presets.base import Preset
from videopolicy.text import t5

PRESET = Preset(
    model=replace(
        cosmos_2b.PRESET.model,
        latents=WAN_2_2,
        text=t5.Config(source="Wan-AI/Wan2.2-TI2V-5B-Diffusers", width=4096),
        backbone=wan.TI2V_5B,
    ),
    training=replace(
        cosmos_2b.PRESET.training,
        noise=independent.Config(video=FlowTime(shift=5.0), actions=FlowTime(alpha=1.5)),
    ),
)
