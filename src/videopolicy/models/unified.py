"""One network of video and actions: noisy actions enter the video model, too (Zhu et al. 2025, UWM, arXiv 2504.02792).

Actions and registers are tokens that the video model attends to beside those of the instruction. Actions are read out
of its features by the head of `video_action`, so that the two models differ in that path alone.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.base import Condition
from videopolicy.clips.normalize import Normalizer
from videopolicy.configs import limited
from videopolicy.diffusion.edm import Scaling
from videopolicy.diffusion.joint import Denoise, Joint, Levels
from videopolicy.models import video_action


@dataclass(frozen=True)
class Config(video_action.Config):
    """`video_action`, with a way from the noisy actions into the video model.

    Attributes:
        registers: tokens that are learnt and stand for nothing, in which the network may keep what it likes.
    """

    registers: int = limited(8, 0, 1024)

    def build(self, normalizer: Normalizer | None) -> "UnifiedModel":
        """See `ModelConfig.build`."""
        return UnifiedModel(self, normalizer)


class UnifiedModel(video_action.VideoActionModel):
    """The video is denoised with regard to noisy actions, as they are with regard to it.

    The backbone's own embedding of the noise level stays the video's; the actions' level comes with their tokens.
    Frames that are not shown the instruction (`Condition.without_text`) see no actions either.

    Attributes:
        tokens: noisy actions -> what the video model attends to; None for a model of video alone.
    """

    config: Config
    takes_actions = True
    looks_once = False

    def __init__(self, config: Config, normalizer: Normalizer | None) -> None:
        super().__init__(config, normalizer)
        width, steps, time = self.action_width, config.window.actions, self.backbone.time_width
        self.tokens = ActionTokens(width, steps, time, self.text.width, config.registers) if width else None

    @property
    def action_modules(self) -> tuple[nn.Module, ...]:
        """See `Model.action_modules`: the tokens, too, which a model of video does without."""
        return (*super().action_modules, *(() if self.tokens is None else (self.tokens,)))

    def denoise(
        self,
        x: Joint,
        levels: Levels,
        condition: Condition,
        *,
        through: float = 1.0,
        wanted: Bool[Tensor, "B"] | None = None,
    ) -> Joint:
        """See `Model.denoise`; the loss of the video reaches the tokens, whatever goes through the features."""
        return super().denoise(x, levels, self._told(x, levels, condition), through=through, wanted=wanted)

    def video_alone(self, x: Joint, levels: Levels, condition: Condition) -> Float[Tensor, "B F C h w"]:
        """See `Model.video_alone`."""
        return super().video_alone(x, levels, self._told(x, levels, condition))

    def freeze(self, x: Joint, levels: Levels, condition: Condition, *, see: bool = True) -> Denoise:
        """See `Model.freeze`: every step of the actions is a pass of the whole network."""
        if not self.acts:
            return super().freeze(x, levels, condition, see=see)

        def beside(now: Joint, after: Levels) -> Joint:
            return self.denoise(Joint(x.video, now.actions), Levels(levels.video, after.each(now).actions), condition)

        return beside

    def _told(self, x: Joint, levels: Levels, condition: Condition) -> Condition:
        if self.tokens is None:
            return condition
        scaled = (x.actions * Scaling()(levels.actions[:, None, None]).inp).to(self.dtype)
        tokens = self.tokens(scaled, self._time(levels.actions))
        return replace(condition, text=torch.cat((condition.text.to(tokens.dtype), tokens), 1))


class ActionTokens(nn.Module):
    """A token for each action, which knows its step and the noise level; and registers."""

    def __init__(self, action_width: int, steps: int, time_width: int, width: int, registers: int) -> None:
        super().__init__()
        self.action = nn.Linear(action_width, width)
        self.step = nn.Parameter(torch.randn(steps, width))
        self.level = nn.Sequential(nn.Linear(time_width, width), nn.SiLU(), nn.Linear(width, width))
        self.registers = nn.Parameter(torch.randn(registers, width))

    def forward(self, actions: Float[Tensor, "B A D"], time: Float[Tensor, "B E"]) -> Float[Tensor, "B L W"]:
        """A tokens, then the registers, from noisy actions scaled by c_in and the embedding of their noise level."""
        tokens = self.action(actions) + self.step + self.level(time)[:, None]
        return torch.cat((tokens, self.registers.expand(len(actions), -1, -1)), 1)
