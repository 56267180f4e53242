"""A model that denoises video and actions in one pass, and so cannot be frozen."""

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import nn

from acme_robots import narrow
from videopolicy.backbones.base import Condition
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.windows import Window
from videopolicy.diffusion.edm import Scaling
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.errors import UserError
from videopolicy.models.base import Model, ModelConfig


@dataclass(frozen=True)
class Config(ModelConfig):
    """Shape of its U-Net; see `ModelConfig` for the rest."""

    backbone: narrow.Config = narrow.Config()

    @property
    def generates_video(self) -> bool:
        return True

    def build(self, normalizer: Normalizer | None) -> "Whole":
        return Whole(self, normalizer)


class Whole(Model):
    config: Config

    def __init__(self, config: Config, normalizer: Normalizer | None) -> None:
        super().__init__(config, normalizer)
        self.backbone = config.backbone.build(self.latents.channels, self.text.width, self.latents.condition_channels)
        outputs, times = config.window.actions * self.action_width, self.backbone.time_width
        self.head = nn.Linear(self.backbone.tap_channels[-1] + times + outputs, outputs) if outputs else None

    @property
    def action_modules(self) -> tuple[nn.Module, ...]:
        return () if self.head is None else (self.head,)

    def denoise(self, x: Joint, levels: Levels, condition: Condition, *, through: float = 1.0) -> Joint:
        video, features = self.backbone.denoise(x.video, levels.video, condition)
        if self.head is None:
            return Joint(video, x.actions)
        tap = features.through(through).taps[-1].mean((1, 3, 4))
        scale = Scaling()(levels.actions[:, None, None])
        known = (tap, self.backbone.embed(levels.actions).detach(), (x.actions * scale.inp).flatten(1).to(self.dtype))
        raw = self.head(torch.cat(known, 1)).view_as(x.actions).float()
        return Joint(video, scale.skip * x.actions + scale.out * raw)

    def freeze(self, x: Joint, levels: Levels, condition: Condition, *, see: bool = True) -> NoReturn:
        raise UserError("the model whole runs all of its network at every level; choose another --sampler")


EXAMPLE = Config(
    views=("top",),
    size=32,
    window=Window(frames=2, stride=2, actions=8),
    execute=4,
    backbone=narrow.Config(channels=(32, 32), id_width=8),
)
