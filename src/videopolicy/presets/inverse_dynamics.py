"""Reads actions from video, on two CPU cores, for `videopolicy label`: 7 million parameters.

What `cloning` is made of, but its encoder sees how each of two future frames differs from the current image, and
nothing else. A network that sees the picture and the instruction, too, learns what is usually done there and says so of
any video; this one has only the motion to go by, so that it reads actions of tasks whose actions it never saw. It
cannot act. Baker et al. 2022 (VPT, arXiv 2206.11795, section 3) label video so, by frames before and after.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import pinned
from videopolicy.latents import pca
from videopolicy.presets import cloning, tiny
from videopolicy.presets.base import Preset

_MODEL, _TRAINING = tiny.PRESET.model, tiny.PRESET.training
PRESET = Preset(
    model=replace(
        cloning.PRESET.model,
        window=_MODEL.window,
        residual=True,
        reads="motion",
        latents=pca.Config(patch=4, channels=24, still=True),
        # One step answers with the mean of all actions that there could be, and the mean is the label.
        sampling=replace(_MODEL.sampling, sampler="one_pass"),
    ),
    # The video is given: as clean as sampling calls clean.
    training=replace(
        cloning.PRESET.training, noise=pinned.Config(_MODEL.sampling.sigma_min, actions=_TRAINING.noise.levels)
    ),
)
