"""A denoiser that runs its video model no more often than the video's noise level changes."""

from videopolicy.diffusion.joint import Denoise, Freezable, Joint, Levels


class Held:
    """At a level of the video's that it was asked at last, it denoises the actions alone, from features that it keeps.

    For samplers that leave the video as it is while its level stays, as Euler's method does.
    """

    def __init__(self, denoise: Freezable) -> None:
        self._denoise = denoise
        self._level: float | None = None
        self._frozen: Denoise = denoise

    def __call__(self, x: Joint, levels: Levels, /) -> Joint:
        """Video and actions at these levels (0-d)."""
        level = float(levels.video)
        if level != self._level:
            self._frozen, self._level = self._denoise.freeze(x, levels), level
        return self._frozen(x, levels)
