"""Flow matching (Lipman et al. 2023, arXiv 2210.02747) as a preconditioning of EDM's noisy sample.

A flow model sees x_t = (1 - t) * clean + t * noise and learns u = noise - clean. Of EDM's x = clean + sigma * noise
that is the same thing at t = sigma / (1 + sigma), x_t = x / (1 + sigma), and its best guess of the clean sample is
x_t - t * u. Hence samplers, losses, guidance and heads need not know of it: Euler's method in sigma is Euler's method
in t over the same levels, and the weighted loss lambda * |D - clean|^2 is (1 + sigma^2) / (1 + sigma)^2, between a half
and all, of |u - (noise - clean)|^2.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.edm import Coefficients


@dataclass(frozen=True)
class FlowScaling:
    """Preconditioning that makes of a flow model u(x_t, t) a denoiser D(x, sigma) = skip * x + out * u(inp * x, noise).

    `noise`, which the network is told, is t itself; many are told a multiple of it.
    """

    def __call__(self, sigma: Float[Tensor, "..."]) -> Coefficients:
        """The coefficients at these noise levels; sigma is not negative."""
        kept, time = 1 / (1 + sigma), flow_time(sigma)
        return Coefficients(skip=kept, out=-time, inp=kept, noise=time)


def flow_time(sigma: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Time t of a flow model at a noise level of EDM."""
    return sigma / (1 + sigma)


def flow_sigma(time: Float[Tensor, "..."], shift: float = 1.0) -> Float[Tensor, "..."]:
    """EDM's noise level at time t, below 1, of a flow model.

    Args:
        time: t before any shift.
        shift: s of t' = s * t / (1 + (s - 1) * t), by which models of long sequences are trained and sampled at more
            noise (Esser et al. 2024, arXiv 2403.03206, section 5.3.2); it multiplies sigma.
    """
    return shift * time / (1 - time)
