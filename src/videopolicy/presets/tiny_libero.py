"""LIBERO on two CPU cores: `tiny` with both cameras, 2 frames each 16 control steps apart, 8 million parameters.

The fixed camera alone, at 64 pixels, misses grasps that the one on the hand can aim.
"""

from dataclasses import replace

from videopolicy.clips.windows import Window
from videopolicy.latents import pca
from videopolicy.presets import tiny
from videopolicy.presets.base import Preset
from videopolicy.text import hashed_words

PRESET = Preset(
    model=replace(
        tiny.PRESET.model,
        latents=pca.Config(channels=32),
        views=("agentview", "eye_in_hand"),
        window=Window(frames=2, stride=16, actions=32),
        # LIBERO's longest instruction has 18 words.
        text=hashed_words.Config(length=18),
    ),
    training=tiny.PRESET.training,
)
