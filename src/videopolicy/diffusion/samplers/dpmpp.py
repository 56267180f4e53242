"""DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2): second order, one function evaluation a step."""

from itertools import pairwise

from videopolicy.diffusion.samplers.base import Denoise, Joint, Levels, asked, at_zero

__all__ = ["asked", "sample"]


def sample(denoise: Denoise, x: Joint, levels: Levels) -> Joint:
    """Takes x from levels[0] to levels[-1]; see `videopolicy.diffusion.samplers.base`."""
    before: tuple[Joint, Levels] | None = None
    for now, after in pairwise(levels):
        denoised = denoise(x, now)
        width = (now / after).log()
        guess = denoised
        # The first step has no past, and the one to sigma 0 is infinitely wide in log sigma: both are first order.
        if before is not None and not at_zero(after):
            guess = denoised + (denoised - before[0]) * (width / before[1] / 2)
        x = x * (after / now) + guess * (1 - after / now)
        before = denoised, width
    return x
