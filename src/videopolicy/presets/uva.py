"""UVA (Li et al. 2025, arXiv 2503.00200) on two CPU cores: `tiny` with masked latents, 8 million parameters.

The future is masked instead of noised, five training modes are drawn, and everything learns from both losses. What
deviates from the original (ShuangLI59/unified_video_action):
- A U-Net sees the latents, not a transformer (MAR) their tokens; text comes in by attention, not as tokens.
- One current image and a chunk that begins now; there, four images and the actions of the past.
- A mode is drawn for every clip, there for every batch. A clip draws only modes that its stage and its actions allow.
- What is hidden of the current images and of the actions is zeros; only hidden pixels of the future are a learned
  vector. Actions enter on channels of their own, the same in every pixel of their frame.
- The loss of the video is the mean over all pixels, the shown ones as zeros; there, over the masked ones alone.
- Heads: EDM with one noise level a clip, `tiny`'s levels and its single step; there, DDPM with a level for every token
  and action step, and 100 steps. The head of the actions is `tiny`'s.
- The video is drawn from one pass with every pixel masked, not in 8 that each show the ones before.
- `tiny`'s recipe: from fresh weights, all losses from the start; there, after a stage of video alone.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import independent
from videopolicy.models import masked
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset
from videopolicy.training.stages import ATTACHED

LEVELS = tiny.PRESET.training.noise.levels
SAMPLING = replace(tiny.PRESET.model.sampling, sampler="one_pass")

PRESET = Preset(
    model=masked.Config.of(tiny.PRESET.model, sampling=SAMPLING),
    training=replace(
        tiny.PRESET.training,
        stage=ATTACHED,
        noise=independent.Config(LEVELS, LEVELS),
    ),
)
