"""Unified World Models on two CPU cores (Zhu et al. 2025, UWM, arXiv 2504.02792): `tiny`, 8 million parameters.

Video and actions have noise levels of their own, and noisy actions enter the video model, so that one network is a
policy, a video model, forward dynamics and inverse dynamics (see `videopolicy.diffusion.clocks`). It acts as the
original does, beside a video that stays pure noise, with the whole network at each of ten steps; mode "joint" draws
both.

What deviates from the original:
- The future is `tiny`'s video of the chunk, in principal components, by a U-Net; the original's is the two frames after
  the chunk, in SDXL's latents, by a transformer over tokens of actions, video and registers.
- Actions enter by cross-attention, and are read from the U-Net's features by `tiny`'s head. The network's embedding of
  time is the video's; the actions' level comes with their tokens.
- EDM instead of DDPM, over noise levels of the same mean and deviation (see `uwm_separate`).
- One current image instead of two. Actions that nobody recorded are pure noise, as there, but do not count in the loss.
"""

from dataclasses import replace

from videopolicy.models import unified
from videopolicy.presets import uwm_separate

PRESET = replace(uwm_separate.PRESET, model=unified.Config.of(uwm_separate.PRESET.model))
