"""Actions and video learnt side by side on two CPU cores: `fast_wam` in cheaper steps, 8 million parameters.

The head sees the current image alone, through the video model, which learns by both losses: the actions never wait for
a future to be drawn well, and the video teaches what of an image matters. As Fast-WAM (Yuan et al. 2026, arXiv
2603.16666), with what pays on a CPU: the video is learnt from a quarter of the clips that have actions, and of all that
have none; the actions are drawn in one step.
"""

from dataclasses import replace

from videopolicy.models.sampling import Sampling
from videopolicy.presets import fast_wam, tiny
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(fast_wam.PRESET.model, sampling=Sampling(sampler="one_pass", steps=1, sigma_max=10.0)),
    training=replace(tiny.PRESET.training, stage=fast_wam.PRESET.training.stage, video_share=0.25),
)
