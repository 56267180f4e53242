"""A video model, and a head that reads the actions out of its features (Liang et al. 2025, Video Policy)."""

from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones import unet
from videopolicy.backbones.base import Condition, Features
from videopolicy.clips.normalize import Normalizer
from videopolicy.diffusion.edm import Scaling
from videopolicy.diffusion.joint import Denoise, Joint, Levels
from videopolicy.errors import UserError
from videopolicy.heads import unet1d
from videopolicy.heads.base import Head
from videopolicy.models.base import Model, ModelConfig
from videopolicy.models.state import StateEncoder


@dataclass(frozen=True)
class Config(ModelConfig):
    """A backbone and a head; see `ModelConfig` for what all models share.

    Attributes:
        residual: whether the video model denoises the difference from the current image, so that what stands still
            costs it nothing to draw; needs conditioning latents that are in the scale of the others.
        backbone: the video denoiser.
        head: features -> actions.
    """

    residual: bool = False
    backbone: Any = field(default_factory=unet.Config)
    head: Any = field(default_factory=unet1d.Config)

    @property
    def generates_video(self) -> bool:
        """See `ModelConfig.generates_video`."""
        return self.backbone.generates_video

    def build(self, normalizer: Normalizer | None) -> "VideoActionModel":
        """See `ModelConfig.build`."""
        return VideoActionModel(self, normalizer)


class VideoActionModel(Model):
    """Backbone -> taps -> head: the video is denoised without regard to the actions, which are read out of it.

    Attributes:
        head: features -> actions; None for a model of video alone.
        state: brings the robot's state to what the head reads; None without proprioception.
    """

    config: Config

    def __init__(self, config: Config, normalizer: Normalizer | None) -> None:
        super().__init__(config, normalizer)
        self.backbone = config.backbone.build(self.latents.channels, self.text.width)
        views, frames, width = len(config.views), config.latent_frames, self.action_width
        taps, time = self.backbone.tap_channels, self.backbone.time_width
        self.head: Head | None = config.head.build(taps, time, views, frames, width) if width else None
        if self.head is not None and config.window.actions % self.head.multiple:
            raise UserError(
                f"a chunk of {config.window.actions} actions does not suit the head; "
                f"its length must be a multiple of {self.head.multiple}"
            )
        self.state: StateEncoder | None = None
        if config.proprioception and self.head is not None:
            self.state = StateEncoder(config.state_width, self.head.width)

    @property
    def action_modules(self) -> tuple[nn.Module, ...]:
        """See `Model.action_modules`."""
        return tuple(module for module in (self.head, self.state) if module is not None)

    def condition(self, *args: Any, **kwargs: Any) -> Condition:
        """See `Model.condition`."""
        condition = super().condition(*args, **kwargs)
        return replace(condition, origin=condition.latents) if self.config.residual else condition

    def denoise(self, x: Joint, levels: Levels, condition: Condition, *, detach: bool = False) -> Joint:
        """See `Model.denoise`."""
        video, features = self.denoise_video(x.video, levels.video, condition)
        if self.head is None:
            return Joint(video, x.actions)
        vector = self.pool_features(features.detach() if detach else features, levels.video, condition.state)
        return Joint(video, self.denoise_actions(x.actions, levels.actions, vector))

    def freeze(self, x: Joint, levels: Levels, condition: Condition, *, see: bool = True) -> Denoise:
        """See `Model.freeze`."""
        if see:
            video, features = self.denoise_video(x.video, levels.video, condition)
        else:
            video, features = x.video, self.backbone.read(x.video, levels.video, condition)
        vector = self.pool_features(features, levels.video, condition.state)

        def actions_only(x: Joint, levels: Levels) -> Joint:
            return Joint(video, self.denoise_actions(x.actions, levels.each(x).actions, vector))

        return actions_only

    def denoise_video(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """The best guess of the clean video, and the features that the head reads."""
        return self.backbone.denoise(video, sigma, condition)

    def pool_features(
        self, features: Features, sigma: Float[Tensor, "B"], state: Float[Tensor, "B _"] | None = None
    ) -> Float[Tensor, "B G"]:
        """One vector of the features of all views' frames, of video at this noise level, and of `Condition.state`."""
        taps = tuple(self.unflatten(tap) for tap in features.taps)
        vector = self._head.adapt(taps, self._time(sigma))
        return vector if self.state is None or state is None else self.state(vector, state)

    def denoise_actions(
        self, actions: Float[Tensor, "B A D"], sigma: Float[Tensor, "B"], vector: Float[Tensor, "B G"]
    ) -> Float[Tensor, "B A D"]:
        """The best guess of the clean actions, given the vector of `pool_features`."""
        scale = Scaling()(sigma[:, None, None])
        denoised = self._head((actions * scale.inp).to(self.dtype), vector, self._time(sigma))
        return scale.skip * actions + scale.out * denoised.float()

    def _time(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        embedding = self.backbone.embed(sigma)
        # A video model's embedding is its own: the head reads it and never trains it.
        return embedding.detach() if self.config.generates_video else embedding

    @property
    def _head(self) -> Head:
        if self.head is None:
            raise UserError("this model was trained on video without actions: it imagines but cannot act")
        return self.head
