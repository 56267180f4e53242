"""DreamZero-Flash's law (Ye et al. 2026, arXiv 2602.15922), as big as `tiny`: two CPU cores, 8 million parameters.

Video mostly noise, actions at any level, so that one step for both finds the head where it was taught. A pure swap of
the law: t_video ~ Beta(7, 1), t_actions ~ U(0, 1), independent. What deviates:
- Their one network takes the noisy actions, too; ours reads the actions out of the video's features.
- One step from level 80 (t = 0.988), not from pure noise.
- Theirs goes on from DreamZero, a model trained at one level for both; ours learns by this law from the start.
- A chunk after an image, not chunks after chunks with a cache.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import flash
from videopolicy.models.sampling import Sampling
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(tiny.PRESET.model, sampling=Sampling(steps=1, sigma_max=80.0)),
    training=replace(tiny.PRESET.training, noise=flash.Config()),
)
