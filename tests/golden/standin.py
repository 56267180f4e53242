"""The stand-in network of `diffusion.safetensors`: cheap, and every input matters to it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from videopolicy.diffusion.edm import Scaling
from videopolicy.diffusion.joint import Joint, Levels


@dataclass(frozen=True)
class StandIn:
    concat: Tensor  # (B, F, 4, h, w)
    context: Tensor  # (B, F, tokens, width)

    def and_unconditional(self) -> "StandIn":
        return StandIn(*(torch.cat((part, torch.zeros_like(part))) for part in (self.concat, self.context)))

    def __call__(self, x: Joint, levels: Levels) -> Joint:
        # The authors' network knows one level for both.
        c = Scaling()(levels.each(x).video)
        noisy = x * c.inp
        words = self.context.mean(dim=(2, 3))
        per_frame = 0.1 * c.noise[:, None] + words
        video = torch.tanh(0.7 * noisy.video + 0.3 * self.concat + per_frame[:, :, None, None, None])
        per_clip = 0.2 * c.noise + noisy.video.mean(dim=(1, 2, 3, 4)) + 0.5 * words.mean(dim=1)
        actions = torch.tanh(0.5 * noisy.actions + per_clip[:, None, None])
        return x * c.skip + Joint(video, actions) * c.out
