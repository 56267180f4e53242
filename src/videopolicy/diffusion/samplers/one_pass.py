"""One pass of the video model, then actions alone, as Video Prediction Policy acts (Hu et al. 2024, arXiv 2412.14803).

The video model runs once, on noise at the first level; only the small action head runs at every step. A network that
takes noisy actions runs at every step, beside the same noise, as UWM acts (Zhu et al. 2025, arXiv 2504.02792).
"""

from videopolicy.diffusion.samplers import euler
from videopolicy.diffusion.samplers.base import Denoise, Joint, Levels, freezable


def sample(denoise: Denoise, x: Joint, levels: Levels) -> Joint:
    """Takes the actions from levels[0] to levels[-1] by Euler's method, beside a video denoised once.

    Raises:
        TypeError: the denoiser cannot be frozen (see `videopolicy.diffusion.joint.Freezable`).
    """
    return euler.sample(freezable("one_pass", denoise).freeze(x, levels[0]), x, levels)


def asked(levels: Levels) -> Levels:
    """The pairs at which the head is asked: features of the first level, beside every level of the actions."""
    return Levels(levels.video[:1].expand(len(levels) - 1), levels.actions[:-1])
