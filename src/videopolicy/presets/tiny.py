"""Two CPU cores, minutes: one view of 64 pixels, 2 frames 8 control steps apart, 8 million parameters."""

from videopolicy.clips.windows import Window
from videopolicy.diffusion.noise import joint
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.latents import pca
from videopolicy.models.sampling import Sampling
from videopolicy.models.video_action import Config
from videopolicy.presets.base import Preset
from videopolicy.text import hashed_words
from videopolicy.training.config import Training

PRESET = Preset(
    model=Config(
        residual=True,
        # In longer chunks the first moves of an episode, which aim, hardly count: step k of it is in k + 1 chunks only.
        # The video reaches as far as the actions; twice as far is a step of training that takes half as long again.
        window=Window(frames=2, stride=8, actions=16),
        latents=pca.Config(channels=32, still=True),
        # As long as the longest instruction of Meta-World: every token costs a little at every step.
        text=hashed_words.Config(length=8),
        # One step from a level where little of the data shows through: as good as many, and as fast as can be.
        sampling=Sampling(steps=1, sigma_max=10.0),
        execute=8,
    ),
    # Aiming takes small motions sideways, a fiftieth of the variance that a range from -1 to 1 leaves to all motions.
    # The noise levels are about the one that a plan is drawn at, sigma_max. With a head that learns as fast as the
    # video model, the loss of the actions is up to twice as high after 600 steps on ten tasks.
    training=Training(lr=1e-3, head_lr=2.5e-4, normalize="std", noise=joint.Config(LogNormal(2.3, 0.8))),
)
