"""`diffusion_policy` that reads the robot's own state, too, as the original does: 9 million parameters.

The state is hidden from a tenth of the clips, which the original does not do: a policy that reads where its hand is may
copy what the demonstrators did there, and look no longer.
"""

from dataclasses import replace

from videopolicy.presets import diffusion_policy
from videopolicy.presets.base import Preset

PRESET = Preset(
    model=replace(diffusion_policy.PRESET.model, proprioception=True),
    training=replace(diffusion_policy.PRESET.training, state_dropout=0.1),
)
