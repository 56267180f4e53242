"""DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2): second order, one look a step."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.samplers.base import Denoise, Joint


def sample(denoise: Denoise, x: Joint, sigmas: Float[Tensor, "n+1"]) -> Joint:
    """Takes x from sigmas[0] to sigmas[-1]; see `videopolicy.diffusion.samplers.base`."""
    before: tuple[Joint, Tensor] | None = None
    for now, after in pairwise(sigmas):
        denoised = denoise(x, now)
        width = (now / after).log()
        guess = denoised
        # The first step has no past, and the one to sigma 0 is infinitely wide in log sigma: both are first order.
        if before is not None and after > 0:
            guess = denoised + (denoised - before[0]) * (width / before[1] / 2)
        x = x * (after / now) + guess * (1 - after / now)
        before = denoised, width
    return x
