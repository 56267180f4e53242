"""The method on Cosmos-Predict2-2B: three views of 256 pixels side by side, 2198 million parameters.

The video transformer has 1956 million of them, the head 115; Wan 2.1's autoencoder, frozen, has the others. T5-11B
reads the instructions, each once. It starts from pretrained weights: see `videopolicy import --preset cosmos_2b`, and
docs/backbones.md for memory and time. No run of this size has been made yet.

Levels of the video are those that Cosmos-Predict2 was trained at, ln sigma ~ N(ln 4, 1.2^2), with a share of higher
ones, from the first level of its sampler on: the head reads the video there, in one pass, as mimic-video does on the
same network (2025, arXiv 2512.15692). Its tap is DiT4DiT's, the output of block 17 of 28.
"""

from dataclasses import replace
from math import log

from videopolicy.backbones import cosmos
from videopolicy.clips.windows import Window
from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import FlowTime, HighTail
from videopolicy.heads import video_former
from videopolicy.heads.former import FormerConfig
from videopolicy.latents import wan
from videopolicy.models.sampling import Sampling
from videopolicy.presets import svd
from videopolicy.presets.base import Preset
from videopolicy.text import t5
from videopolicy.training.stages import JOINT

# The first level of Cosmos-Predict2's sampler.
FIRST = 80.0

PRESET = Preset(
    model=replace(
        svd.MODEL,
        # Two latents of each view: the frames 4 to 16, and 20 to 32 control steps ahead.
        window=Window(frames=8, stride=4, actions=32),
        pad=0,
        latents=wan.WAN_2_1,
        text=t5.Config(),
        backbone=cosmos.PREDICT2_2B,
        head=video_former.Config(
            channels=(256, 512, 1024),
            time_width=256,
            adapter=FormerConfig(queries=16, channels=512, heads=8, layers=4, width=1024),
        ),
        sampling=Sampling("one_pass", steps=10, sigma_max=FIRST, sigma_min=0.002),
    ),
    training=replace(
        svd.PRESET.training,
        steps=50_000,
        warmup=1000,
        decay=True,
        pool_losses=False,
        noise=independent.Config(video=HighTail(log(4), 1.2, low=FIRST), actions=FlowTime(alpha=1.5)),
        conditioning_noise=0.0,
        image_dropout=0.0,
        dropout_by_frame=False,
        stage=JOINT,
    ),
)
