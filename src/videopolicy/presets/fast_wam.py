"""Fast-WAM on two CPU cores: `tiny` whose head sees the current image alone, 8 million parameters.

As in Fast-WAM (Yuan et al. 2026, arXiv 2603.16666), actions never see the future: the loss of the video trains the
weights that the head reads through, and nothing is imagined when acting. `--stage end_to_end` is the control, the same
network without the loss of the video. What deviates: the head reads a U-Net's features of a clip of one frame a view,
in a pass apart from that over the noisy future, where theirs are transformers side by side whose action tokens are
masked from the future's; nothing is pretrained; our latents, levels and action denoiser, which takes 10 steps.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import independent
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset
from videopolicy.training.stages import ATTACHED

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        reads="present",
        sampling=replace(tiny.PRESET.model.sampling, sampler="one_pass", steps=10),
    ),
    training=replace(
        tiny.PRESET.training, stage=ATTACHED, noise=independent.Config(video=tiny.PRESET.training.noise.levels)
    ),
)
