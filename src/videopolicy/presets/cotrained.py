"""Actions and video learnt side by side on two CPU cores: `cloning` whose encoder a video model teaches, too.

The head reads the encoder's features of the current image, as `cloning` does, so that the actions never wait for a
future to be drawn well. The video model is conditioned on the same features, and its loss teaches the encoder what of
an image matters: in an eighth of the steps where there are actions, in every step where there are none. 9 million
weights; acting takes those of `cloning` alone. Actions never depend on an imagined future, as in Fast-WAM (Yuan et al.
2026, arXiv 2603.16666), whose networks for video and actions share their weights where ours share an encoder.
"""

from dataclasses import replace

from videopolicy.backbones import encoded
from videopolicy.latents import pca
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset
from videopolicy.training.stages import ATTACHED

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        reads="present",
        latents=pca.Config(channels=32, still=True, pixels=True),
        backbone=encoded.Config(),
        sampling=replace(tiny.PRESET.model.sampling, sampler="one_pass"),
    ),
    training=replace(tiny.PRESET.training, stage=ATTACHED, video_share=0.125),
)
