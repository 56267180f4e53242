"""Two CPU cores, minutes: one view of 64 pixels, 4 frames 8 control steps apart, 8 million parameters."""

from videopolicy.latents import pca
from videopolicy.models.sampling import Sampling
from videopolicy.models.video_action import Config
from videopolicy.presets.base import Preset
from videopolicy.text import hashed_words
from videopolicy.training.config import Training

PRESET = Preset(
    model=Config(
        residual=True,
        latents=pca.Config(channels=32),
        # As long as the longest instruction of Meta-World: every token costs a little at every step.
        text=hashed_words.Config(length=8),
        # One step from a level where little of the data shows through: as good as many, and as fast as can be.
        sampling=Sampling(steps=1, sigma_max=10.0),
        execute=8,
    ),
    training=Training(),
)
