"""One look at the video, then actions alone, as Video Prediction Policy acts (Hu et al. 2024, arXiv 2412.14803).

The video model runs once, on noise at the first level; only the small action head runs at every step.
"""

from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.samplers import euler
from videopolicy.diffusion.samplers.base import Denoise, Freezable, Joint


def sample(denoise: Denoise, x: Joint, sigmas: Float[Tensor, "n+1"]) -> Joint:
    """Takes the actions from sigmas[0] to sigmas[-1] by Euler's method, beside a video denoised once.

    Raises:
        TypeError: the denoiser cannot be frozen (see `videopolicy.diffusion.joint.Freezable`).
    """
    if not isinstance(denoise, Freezable):
        raise TypeError(f"one_pass needs a denoiser with `freeze`; {type(denoise).__name__} has none")
    return euler.sample(denoise.freeze(x, sigmas[0]), x, sigmas)
