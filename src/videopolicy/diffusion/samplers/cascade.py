"""The video down to a level, then the actions, as LingBot-VA acts (2026, arXiv 2601.21998).

While the actions wait at their first level, the video model denoises the video alone; where it stops, the head looks
once, and denoises the actions beside it. With levels that fall together from the first, the video stops at once, and it
is `one_pass`.
"""

from itertools import pairwise

from videopolicy.diffusion.samplers import one_pass
from videopolicy.diffusion.samplers.base import Denoise, Joint, Levels, freezable


def sample(denoise: Denoise, x: Joint, levels: Levels) -> Joint:
    """Takes the video by Euler's method for as long as the actions stay, then the actions to levels[-1].

    The video is then as it was denoised from where it stopped, if its last level is 0.

    Raises:
        TypeError: the denoiser cannot be frozen (see `videopolicy.diffusion.joint.Freezable`).
    """
    stop, halting = _stop(levels), freezable("cascade", denoise)
    for now, after in pairwise(levels[: stop + 1]):
        slope = (x.video - halting.video_alone(x, now)) / now.video
        x = Joint(x.video + (after.video - now.video) * slope, x.actions)
    return one_pass.sample(denoise, x, levels[stop:])


def asked(levels: Levels) -> Levels:
    """The pairs at which the head is asked: features of the level where the video stops, beside all of the actions."""
    return one_pass.asked(levels[_stop(levels) :])


def _stop(levels: Levels) -> int:
    """The step from which on the actions move."""
    return int((levels.actions == levels.actions[0]).sum()) - 1
