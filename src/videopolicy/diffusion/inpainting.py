"""Chunks drawn so that they go on from an earlier plan (Black et al. 2025, Real-Time Chunking, arXiv 2506.07339).

Where a policy never learnt to continue committed actions, its denoiser D is drawn to them: with y what the earlier plan
says, W how much each step weighs, and J the derivative of D with respect to the noisy actions,

    D'(x, sigma) = D(x, sigma) + min(1 + sigma^2, limit * sigma) J^T W (y - D(x, sigma)),

the paper's equations 1 to 4 (pseudo-inverse guidance; Song et al. 2023), whose flow time t is 1 / (1 + sigma) here, and
whose sample at it is x / (1 + sigma).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.joint import Denoise, Joint, Levels


def soft_mask(committed: int, planned: int, chunk: int) -> Float[Tensor, "A"]:
    """How much each step of a chunk weighs (equation 5): 1 if committed, less and less of what is planned, then 0.

    Args:
        committed: steps that will be executed as they were planned.
        planned: steps that the earlier plan still has, those included.
        chunk: A.
    """
    place = torch.arange(chunk, dtype=torch.float32)
    left = ((planned - place) / (planned - committed + 1)).clamp(0, 1)
    falling = left * torch.expm1(left) / torch.expm1(torch.ones(()))
    return torch.where(place < committed, 1.0, torch.where(place < planned, falling, 0.0))


@dataclass(frozen=True)
class Earlier:
    """What an earlier plan says of the steps of a chunk.

    Attributes:
        actions: normalised; they may be anything where they weigh nothing.
        weights: of each step, 0 to 1.
        limit: of the guidance, beta in the paper, which takes 5.
    """

    actions: Float[Tensor, "B A D"]
    weights: Float[Tensor, "B A"]
    limit: Float[Tensor, "B"]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Earlier":
        """The same change of every tensor."""
        return Earlier(change(self.actions), change(self.weights), change(self.limit))

    def draw_on(self, denoise: Denoise) -> Denoise:
        """The denoiser with its actions drawn to these, at the cost of a derivative through what denoises actions."""

        def guided(x: Joint, levels: Levels) -> Joint:
            levels, weights = levels.each(x), self.weights[:, :, None]
            with torch.enable_grad():
                actions = x.actions.detach().requires_grad_()
                denoised = denoise(Joint(x.video, actions), levels)
                off = (self.actions - denoised.actions.detach()).masked_fill(weights == 0, 0)
                (slope,) = torch.autograd.grad(denoised.actions, actions, weights * off)
            sigma = levels.actions[:, None, None]
            scale = torch.minimum(1 + sigma**2, self.limit[:, None, None] * sigma)
            return Joint(denoised.video.detach(), denoised.actions.detach() + scale * slope)

        return guided
