"""X-WAM's law (2026, arXiv 2604.26694), as big as `tiny`: two CPU cores, 8 million parameters.

The actions are denoised ahead of the video, which is no less noisy than they are: half of the clips have t_actions ~
U(0, 1) and t_video = t_actions + (1 - t_actions) Beta(1.5, 1), half have clean actions and t_video ~ U(0, 1), shift 5.
What deviates:
- Their one network takes the actions, too: what clean actions teach it of the video, ours cannot learn. The half of the
  clips in which they are clean has a loss of the video alone here.
- Acting, their clocks have 10 steps for the actions and 50 for the video, and stop after 10 passes, when the video has
  come to level 20. Ours looks at it once, at 80, before the same 10 steps. `--sampler euler --video-steps 10` has it
  fall with the actions.
- The video is ours: no depth, and a model from scratch.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import asynchronous
from videopolicy.models.sampling import Sampling
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(tiny.PRESET.model, sampling=Sampling("one_pass", steps=10, sigma_max=80.0)),
    training=replace(tiny.PRESET.training, noise=asynchronous.Config()),
)
