"""The method on Cosmos-Predict2.5-2B: three views of 256 pixels side by side, 2301 million parameters.

The video transformer has 2059 million of them, 103 million of which project its text; the head has 115, and Wan 2.1's
autoencoder, frozen, has the others. Cosmos-Reason1-7B reads the instructions, each once. It starts from pretrained
weights: see `videopolicy import --preset cosmos25_2b`, and docs/backbones.md for memory and time. No run of this size
has been made yet.

It is `cosmos_2b` on the next weights of its network and by their levels of the video: flow times that are logit-normal,
at shift 5, so that ln sigma ~ N(ln 5, 1), with a share of higher ones, from the first level of its sampler on.
"""

from dataclasses import replace
from math import log

from videopolicy.backbones import cosmos
from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import FlowTime, HighTail
from videopolicy.presets import cosmos_2b
from videopolicy.presets.base import Preset
from videopolicy.text import reason1

# The first level of Cosmos-Predict2.5's sampler.
FIRST = 200.0

PRESET = Preset(
    model=replace(
        cosmos_2b.PRESET.model,
        text=reason1.Config(),
        backbone=cosmos.PREDICT2_5_2B,
        sampling=replace(cosmos_2b.PRESET.model.sampling, sigma_max=FIRST, sigma_min=0.01),
    ),
    training=replace(
        cosmos_2b.PRESET.training,
        noise=independent.Config(video=HighTail(log(5), 1.0, low=FIRST), actions=FlowTime(alpha=1.5)),
    ),
)
