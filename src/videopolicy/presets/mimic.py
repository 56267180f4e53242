"""mimic-video's law (2025, arXiv 2512.15692), as big as `tiny`: two CPU cores, 8 million parameters.

Independent clocks: the head learns to read video at every noise level, and where it does is chosen when acting. Best in
the paper, and so here, is pure noise: one pass. `--sampler cascade --video-until 1 --video-steps 3` has the video come
to level 1 (flow time 1/2) first. They train a head on a frozen video model: `--stage video`, then `--stage action
--init RUN1/checkpoint`; without `--stage` both learn at once, the features detached.

Of the paper and its code: video levels ln sigma ~ N(0, 1) times the root of the latent frames (2 here), 5 % of them
log-uniform from 200 on; t_actions with density ~ sqrt(t) (the code: even); ten steps. What deviates:
- The tail of the video's levels ends at 1000, not 100,000; the actions' t begins at 0, not 0.001.
- Our taps and head, not layer 20 of a transformer and cross-attention; both clocks enter it as ours do. No state.
- Euler's steps as far apart as Karras et al. space them, from 200 (t = 0.995).
- A video model from scratch, where theirs is Cosmos-Predict2.
"""

from dataclasses import replace

from videopolicy.diffusion.noise import independent
from videopolicy.diffusion.noise.base import FlowTime, HighTail
from videopolicy.models.sampling import Sampling
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(tiny.PRESET.model, sampling=Sampling("one_pass", steps=10, sigma_max=200.0)),
    training=replace(
        tiny.PRESET.training, noise=independent.Config(video=HighTail(0.35, 1.0), actions=FlowTime(alpha=1.5))
    ),
)
