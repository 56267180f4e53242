"""What a student must answer, to arrive in few Euler steps where a teacher arrives in many.

The path of the probability-flow ODE is cut into as many segments as the student takes steps. From x at level sigma of
a segment, the teacher walks to the segment's end in many steps, to y. The student's step leads there if its denoiser
answers D(x, sigma) = (y - r x) / (1 - r), r = end / sigma (Salimans and Ho 2022, arXiv 2202.00512, Algorithm 2). With
one segment, f = D is a consistency function (Song et al. 2023, arXiv 2303.01469), f(x, sigma) = y at sigma 0, and EDM's
preconditioning holds f(x, 0) = x; with several, one of multistep consistency models (Heek et al. 2024, arXiv
2403.06807), f(x, sigma) = r x + (1 - r) D(x, sigma) and f(x, end) = x. Those learn f everywhere, by f(x, sigma) =
f(x', sigma') from the student's own answer a stride further. Here the teacher walks all the way (Luhman and Luhman
2021, arXiv 2101.02388), from where a segment begins, as nothing else is ever asked: dearer a step, but nothing rests on
an answer that is not learnt yet. A student is still a denoiser, and sampler `euler` is the one that fits.

Video and actions walk together and are told apart: each has its own function, and by its own noise level its own weight
1 / c_out^2, which keeps the gradient at the scale of the network's output. Flash-WAM (arXiv 2606.05254) finds that
under one parameterisation without it, the actions' gradient vanishes where the noise is low.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from videopolicy.diffusion.edm import ramp, ramp_share
from videopolicy.diffusion.joint import Denoise, Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.diffusion.samplers.base import initial_noise

# A share of the way of sampling that is no more than the rounding of a noise level.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Path:
    """The noise levels from the start of sampling to zero.

    Attributes:
        sigma_min: the last level above zero.
        sigma_max: the first level.
        segments: the student's steps.
        strides: the teacher's steps in each.
    """

    sigma_min: float
    sigma_max: float
    segments: int
    strides: int

    def walk(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "n+1 B"]:
        """The teacher's levels from each level to where its segment ends: for the last one that is zero."""
        begin = ramp_share(sigma.double(), self.sigma_min, self.sigma_max).clamp(0, 1)
        # A level where one segment ends and the next begins belongs to the next, however it is rounded.
        index = (begin * self.segments + ROUNDING).floor().clamp(max=self.segments - 1)
        last = index == self.segments - 1
        # In the last segment, the step from sigma_min to zero is one of the strides.
        strides = torch.where(last, self.strides - 1, self.strides).clamp(min=1)
        done = (torch.arange(self.strides + 1, device=sigma.device)[:, None] / strides).clamp(max=1)
        levels = ramp(begin + done * ((index + 1) / self.segments - begin), self.sigma_min, self.sigma_max)
        levels[-1] = torch.where(last, 0, levels[-1])
        return torch.cat((sigma[None], levels[1:].to(sigma)))

    def first(self, sigma: Float[Tensor, "B"]) -> Bool[Tensor, "B"]:
        """Which levels lie in the segment that sampling begins with."""
        return ramp_share(sigma.double(), self.sigma_min, self.sigma_max) * self.segments + ROUNDING < 1


def lesson(teacher: Denoise, clean: Joint, noise: Joint, levels: Levels, path: Path) -> tuple[Joint, Joint]:
    """A noisy sample, and what the student's denoiser must answer to it.

    Args:
        teacher: whose walk is learnt.
        clean: what the data show: a walk that does not begin with pure noise begins near them.
        noise: standard normal.
        levels: noise levels of each sample, (B,), the same for video and actions.
        path: cut into segments.

    Returns:
        The sample, and the answer: both as `denoising_loss` wants them.
    """
    x, begun = clean + noise * levels, initial_noise(noise, levels)
    pure = levels.map(path.first)
    x = Joint(_either(pure.video, begun.video, x.video), _either(pure.actions, begun.actions, x.actions))
    walk = levels.map(path.walk)
    arrived, ratio = euler.sample(teacher, x, walk), walk[-1] / levels
    return x, (arrived - x * ratio) / (1 - ratio)


def _either(chosen: Bool[Tensor, "B"], yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (yes.dim() - 1)), yes, no)
