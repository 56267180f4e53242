"""LingBot-VA's law (2026, arXiv 2601.21998), as big as `tiny`: two CPU cores, 8 million parameters.

The video first, then the actions: the head is an inverse dynamics of a future that is nearly done. It learns from the
true future, clean in half of the clips, else with t ~ U(0, 1/2); acting, the video comes to t = 0.4 (level 0.667) in 3
steps, and the actions take 10. The video's levels have shift 5, the actions' 1. What deviates:
- One chunk after an image, not chunks after chunks with a cache that is filled with real frames; no planning ahead.
- The head reads our taps of another pass than the one in which the video is learnt, so that a step costs two passes.
- Euler's steps as far apart as Karras et al. space them, from 80 (t = 0.988), without guidance.
- A video model from scratch, where theirs is Wan 2.2.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import cascade
from videopolicy.models.sampling import Sampling
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(
        tiny.PRESET.model, sampling=Sampling("cascade", steps=10, video_steps=3, video_until=0.667, sigma_max=80.0)
    ),
    training=replace(tiny.PRESET.training, noise=cascade.Config()),
)
