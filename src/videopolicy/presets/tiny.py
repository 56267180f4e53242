"""Two CPU cores, minutes: one view of 64 pixels, 4 frames 8 control steps apart, 8 million parameters."""

from videopolicy.model import Config
from videopolicy.presets.base import Preset
from videopolicy.training.config import Training

PRESET = Preset(model=Config(), training=Training())
