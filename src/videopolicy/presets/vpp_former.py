"""VPP's law and head on two CPU cores: `tiny` behind a Video Former, on features of pure noise; 8 million parameters.

Of Video Prediction Policy (Hu et al. 2024, arXiv 2412.14803) it has the noise law (the head reads one pass over pure
noise), the sampler (one pass of the video model, 10 of the head) and the Video Former. What deviates: our U-Net,
latents and levels; both stages are one, in which the action loss stops at the features (`--stage video`, then `--stage
action --init` are theirs); the taps are those of `tiny`; a frame has 4 queries and not 14; the action denoiser is our
1-D U-Net, which is given the queries as one vector, and not a transformer that attends to them.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import pinned
from videopolicy.heads import video_former
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        head=video_former.Config(),
        sampling=replace(tiny.PRESET.model.sampling, sampler="one_pass", steps=10),
    ),
    # The loss of the video is taken where tiny's is, as the features are read at the level where its sampling starts.
    training=replace(tiny.PRESET.training, noise=pinned.Config(video=tiny.PRESET.training.noise.levels)),
)
