"""Diffusion Policy on one GPU (not measured yet): three views of 64 pixels, a whole ResNet-18, 82 million parameters.

`diffusion_policy` with views, words, batch and steps of `small`, and with the authors' smaller head (256, 512 and 1024
wide); it deviates as that does otherwise.
"""

from dataclasses import replace

from videopolicy.backbones import resnet18
from videopolicy.presets import diffusion_policy, small
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        small.PRESET.model,
        window=small.PRESET.model.window.reaching(0),
        pad=0,
        residual=False,
        latents=diffusion_policy.PRESET.model.latents,
        backbone=resnet18.Config(),
        head=replace(diffusion_policy.HEAD, channels=(256, 512, 1024)),
        sampling=diffusion_policy.PRESET.model.sampling,
    ),
    training=replace(
        small.PRESET.training,
        stage=diffusion_policy.PRESET.training.stage,
        noise=diffusion_policy.PRESET.training.noise,
        conditioning_noise=diffusion_policy.PRESET.training.conditioning_noise,
        weight_decay=diffusion_policy.PRESET.training.weight_decay,
        random_shift=diffusion_policy.PRESET.training.random_shift,
    ),
)
