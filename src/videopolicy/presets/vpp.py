"""VPP's law (Hu et al. 2024, arXiv 2412.14803), as big as `tiny`: two CPU cores, 8 million parameters.

The head reads features of one pass of the video model on pure noise, and takes ten steps. VPP trains in two stages, the
second on a frozen video model: `--stage video`, then `--stage action --init RUN1/checkpoint`. Without `--stage` both
learn at once, the features detached, which shares the steps with the others.

Of the paper and its code: one pass on noise, the two lowest blocks on the way up as taps, ln sigma ~ N(0.7, 1.6^2) for
the video, log-logistic levels of scale 0.5 for the actions, ten steps. What deviates:
- The adapter and the head are ours, not a Video Former and a transformer: this is the law alone.
- A U-Net of two levels has no other blocks on the way up, so that a look runs all of them.
- Their actions are taken to spread 0.5, ours spread 1: median and highest level are twice theirs, 1 and 160.
- The video is read at 160 as well, where theirs is at 700: neither shows any of it.
- Euler's steps as far apart as Karras et al. space them, where theirs are DDIM's, evenly spaced in ln sigma.
- A video model from scratch, where theirs is Stable Video Diffusion.
"""

from dataclasses import replace

from videopolicy.backbones import unet
from videopolicy.diffusion.noise import pinned
from videopolicy.diffusion.noise.base import LogLogistic, LogNormal
from videopolicy.models.sampling import Sampling
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset

BACKBONE = unet.Config(taps=("up_blocks.0", "up_blocks.1"))

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        backbone=BACKBONE,
        sampling=Sampling("one_pass", steps=10, sigma_max=160.0, sigma_min=0.002),
    ),
    training=replace(
        tiny.PRESET.training, noise=pinned.Config(video=LogNormal(0.7, 1.6), actions=LogLogistic(0.0, 0.5))
    ),
)
