"""Diffusion Policy, its image-based CNN (Chi et al. 2023, arXiv 2303.04137), on two CPU cores: 9 million parameters.

`cloning` with the authors' encoder of images and its crops, their range of noise levels, and ten steps of the head a
plan; chunks of 16 actions, 8 of them executed, as theirs. What deviates, and why:

- One frame is seen, not two; nothing else in this frame has a past.
- All views share one encoder, half as wide as a ResNet-18, of 2x2 patches of pixels (all their components, an
  invertible map), so that it is as large as its neighbours. The instruction modulates each of its levels; the authors'
  policies are of one task each. The keypoints pass through the adapter to the head.
- Crops are shifts by up to 4 of 64 pixels, with edges repeated; the authors crop 76 of 84 pixels, the middle in acting.
- The network predicts as Karras et al. 2022 have it, at levels of the authors' squared cosine schedule, on which
  ln sigma has deviation pi / 2 about 0; theirs predicts the noise. Euler's method takes the steps that DDIM takes.
- Actions are normalised to unit deviation, not to [-1, 1], and are the env's own (motions in Meta-World, where the
  authors prefer positions). Steps, batch, learning rate and EMA are those of `tiny`: the authors train for hours.
- The head is `tiny`'s 1-D U-Net of two levels, a quarter as wide as the authors' of three.
"""

from dataclasses import replace

from videopolicy.backbones import resnet18
from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.heads import unet1d
from videopolicy.heads.adapter import AdapterConfig
from videopolicy.latents import pca
from videopolicy.models.sampling import Sampling
from videopolicy.presets import cloning
from videopolicy.presets.base import Preset

# There is no video whose level could matter, and the encoder runs once a plan.
LEVELS = LogNormal(0.0, 1.6)
# Keypoints are numbers, and no picture.
HEAD = unet1d.Config(adapter=AdapterConfig(size=1, channels=(64,)))

PRESET = Preset(
    model=replace(
        cloning.PRESET.model,
        # Without a still picture, so that what is shifted is the image.
        latents=pca.Config(patch=2, channels=12),
        backbone=resnet18.Config(channels=(32, 64, 128, 256)),
        head=HEAD,
        sampling=Sampling("one_pass", steps=10),
    ),
    training=replace(
        cloning.PRESET.training,
        noise=independent.Config(LEVELS, LEVELS),
        conditioning_noise=0.0,
        weight_decay=1e-6,
        random_shift=2,
    ),
)
