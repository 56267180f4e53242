"""A video model, and a head that reads the actions out of its features (Liang et al. 2025, Video Policy)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from videopolicy.backbones import unet
from videopolicy.backbones.base import Backbone, Condition, Features
from videopolicy.clips.normalize import Normalizer
from videopolicy.diffusion.edm import Scaling
from videopolicy.diffusion.joint import Denoise, Joint, Levels
from videopolicy.diffusion.loss import Counts
from videopolicy.errors import UserError
from videopolicy.heads import unet1d
from videopolicy.heads.base import Head
from videopolicy.latents.base import Latents
from videopolicy.models.base import Model, ModelConfig
from videopolicy.models.state import VectorEncoder

# Noise level at which a head sees the current image: that of the noise on the conditioning latents in training.
PRESENT = 0.02


@dataclass(frozen=True)
class Config(ModelConfig):
    """A backbone and a head; see `ModelConfig` for what all models share.

    Attributes:
        residual: whether the video model denoises the difference from the current image, so that what stands still
            costs it nothing to draw; needs conditioning latents that begin with the others' channels, in their scale.
        reads: what the head sees: features of the noisy future; of the present, which are those of the current images
            alone as a clip of one frame a view, hardly noisy, so that no action ever depends on an imagined frame and
            acting runs the video model on one frame (Yuan et al. 2026, Fast-WAM, arXiv 2603.16666); or the difference
            of each future frame's features to the present's. All of these but "future" need latents as `residual` does.
            Or what an image encoder makes of the motion alone, each frame less the current image: neither a picture nor
            an instruction tells what would usually be done, so that it reads actions from any video, and cannot act.
        backbone: the video denoiser.
        head: features -> actions.
    """

    residual: bool = False
    reads: Literal["future", "present", "difference", "motion"] = "future"
    backbone: Any = field(default_factory=unet.Config)
    head: Any = field(default_factory=unet1d.Config)

    @classmethod
    def of(cls, other: ModelConfig, **changes: Any) -> Self:
        """This kind of model with all that another one, of `video_action`, is made of, and these changes."""
        shared: Mapping[str, Any] = vars(other)
        return cls(**{**shared, **changes})

    @property
    def generates_video(self) -> bool:
        """See `ModelConfig.generates_video`."""
        return self.backbone.generates_video

    @property
    def leading(self) -> tuple[int, ...]:
        """See `ModelConfig.leading`: each view's current image, if the backbone draws them, too."""
        drawn = range(len(self.views)) if getattr(self.backbone, "draws_current", False) else ()
        return (*super().leading, *drawn)

    def build_backbone(self, latents: Latents, text_width: int) -> Backbone:
        """The video denoiser with fresh weights, for these latents and tokens of width W."""
        return self.backbone.build(latents.channels, text_width, latents.condition_channels)

    def build(self, normalizer: Normalizer | None) -> "VideoActionModel":
        """See `ModelConfig.build`."""
        return VideoActionModel(self, normalizer)


class VideoActionModel(Model):
    """Backbone -> taps -> head: the video is denoised without regard to the actions, which are read out of it.

    Attributes:
        head: features -> actions; None for a model of video alone.
        state: brings the robot's state to what the head reads; None without proprioception.
        continuation: brings committed actions to it; None if it continues none.
    """

    config: Config
    reads_state = True

    def __init__(self, config: Config, normalizer: Normalizer | None) -> None:
        super().__init__(config, normalizer)
        self.reads_motion = config.reads == "motion"
        self.reads_future = self.reads_motion or (config.generates_video and config.reads != "present")
        if self.reads_motion and (config.generates_video or not config.residual):
            raise UserError(
                'reads="motion" needs residual=True and a backbone that encodes images, such as images or resnet18'
            )
        self.backbone = config.build_backbone(self.latents, self.text.width)
        self.backbone.arrange(len(config.views), len(config.leading), config.size // self.latents.downsampling)
        views, frames, width = len(config.views), self._frames_read, self.action_width
        taps, time = self.backbone.tap_channels, self.backbone.time_width
        self.head: Head | None = config.head.build(taps, time, views, frames, width) if width else None
        if self.head is not None and config.window.actions % self.head.multiple:
            raise UserError(
                f"a chunk of {config.window.actions} actions does not suit the head; "
                f"its length must be a multiple of {self.head.multiple}"
            )
        if config.committed >= config.window.actions:
            raise UserError(
                f"of {config.window.actions} actions, {config.committed} cannot be committed; leave some open"
            )
        self.state = self.continuation = None
        if self.head is not None and config.proprioception:
            # Beside the state stands a 1 where it is known.
            self.state = VectorEncoder(config.state_width + 1, self.head.width)
        if self.head is not None and config.committed:
            self.continuation = VectorEncoder(config.window.actions * (width + 1), self.head.width)

    @property
    def action_modules(self) -> tuple[nn.Module, ...]:
        """See `Model.action_modules`."""
        return tuple(module for module in (self.head, self.state, self.continuation) if module is not None)

    def condition(self, *args: Any, **kwargs: Any) -> Condition:
        """See `Model.condition`."""
        condition = super().condition(*args, **kwargs)
        if self.config.residual:
            condition = replace(condition, origin=self._current(condition))
        if not self.backbone.encodes:
            return condition
        seen = self.backbone.encode_current(self._one_frame(condition))
        return replace(condition, latents=self._of_each_frame(seen.latents))

    def denoise(
        self,
        x: Joint,
        levels: Levels,
        condition: Condition,
        *,
        through: float = 1.0,
        wanted: Bool[Tensor, "B"] | None = None,
    ) -> Joint:
        """See `Model.denoise`."""
        video, features = self._denoise_wanted(x.video, levels.video, condition, through, wanted)
        if self.head is None:
            return Joint(video, x.actions)
        vector = self._see(features, levels.video, condition, through)
        return Joint(video, self.denoise_actions(x.actions, levels.actions, vector, condition))

    def freeze(self, x: Joint, levels: Levels, condition: Condition, *, see: bool = True) -> Denoise:
        """See `Model.freeze`."""
        if see:
            video, features = self.denoise_video(x.video, levels.video, condition)
        elif self.config.reads == "present":
            video, features = x.video, None
        else:
            video, features = x.video, self._read(x.video, levels.video, condition)
        if self.head is None:
            return lambda x, levels: Joint(video, x.actions)
        vector = self._see(features, levels.video, condition)

        def actions_only(x: Joint, levels: Levels) -> Joint:
            return Joint(video, self.denoise_actions(x.actions, levels.each(x).actions, vector, condition))

        return actions_only

    def video_alone(self, x: Joint, levels: Levels, condition: Condition) -> Float[Tensor, "B F C h w"]:
        """See `Model.video_alone`: the head does not run."""
        return self.denoise_video(x.video, levels.video, condition)[0]

    def reveal(
        self,
        condition: Condition,
        clean: Joint,
        counts: Counts,
        has_actions: Bool[Tensor, "B"],
        seeds: Int64[Tensor, "B"],
    ) -> tuple[Condition, Counts]:
        """See `Model.reveal`: of each clip the first actions, as many as it draws, are committed and do not count."""
        if not self.config.committed or not self.acts:
            return condition, counts
        draws = (torch.Generator().manual_seed(seed) for seed in seeds.tolist())
        steps = torch.stack([torch.randint(self.config.committed + 1, (), generator=draw) for draw in draws])
        steps = steps * counts.has_actions
        open_ = torch.arange(counts.actions.shape[1]) >= steps[:, None]
        return condition.commit(clean.actions, steps), replace(counts, actions=counts.actions & open_)

    def denoise_video(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """The best guess of the clean video, and the features that the head reads."""
        return self.backbone.denoise(video, sigma, self._shown(video, condition))

    def read_present(self, condition: Condition) -> Features:
        """Features of the current images, (B, V, ...): a clip of one frame a view, at noise level `PRESENT`."""
        given = self._one_frame(condition)
        # Where an image is hidden, a residual model is told of no motion, as it is where there is an image.
        video = self._current(given) if given.origin is None else given.origin
        return self.backbone.read(video, video.new_full((len(video),), PRESENT), given)

    def pool_features(
        self, features: Features, sigma: Float[Tensor, "B"], condition: Condition
    ) -> Float[Tensor, "B G"]:
        """One vector of the features of all views' frames, which stand last, and of what else the head reads.

        Args:
            features: of video at this noise level.
            sigma: the level.
            condition: the robot's state, and the actions that are committed.
        """
        views, frames = len(self.config.views), self._frames_read
        taps = tuple(tap[:, -views * frames :].unflatten(1, (views, frames)) for tap in features.taps)
        vector = self._head.adapt(taps, self._time(sigma))
        if self.state is not None and condition.state is not None:
            vector = self.state(vector, condition.state)
        if self.continuation is not None:
            # Training always says how much is committed, even where it is nothing.
            committed = condition.committed
            none = vector.new_zeros(len(vector), self.config.window.actions, self.action_width + 1)
            vector = self.continuation(vector, (none if committed is None else committed).flatten(1))
        return vector

    def denoise_actions(
        self,
        actions: Float[Tensor, "B A D"],
        sigma: Float[Tensor, "B"],
        vector: Float[Tensor, "B G"],
        condition: Condition,
    ) -> Float[Tensor, "B A D"]:
        """The best guess of the clean actions, given the vector of `pool_features`; committed ones stay as they are."""
        scale, committed = Scaling()(sigma[:, None, None]), condition.committed

        def keep(others: Float[Tensor, "B A D"]) -> Float[Tensor, "B A D"]:
            return others if committed is None else torch.where(committed[:, :, -1:] > 0, committed[:, :, :-1], others)

        denoised = self._head(keep(actions * scale.inp).to(self.dtype), vector, self._time(sigma))
        return keep(scale.skip * actions + scale.out * denoised.float())

    def _denoise_wanted(
        self,
        video: Float[Tensor, "B F C h w"],
        sigma: Float[Tensor, "B"],
        condition: Condition,
        through: float,
        wanted: Bool[Tensor, "B"] | None,
    ) -> tuple[Float[Tensor, "B F C h w"], Features | None]:
        """As `denoise_video`, but of the samples whose video nobody wants no more than what the head reads."""
        if wanted is None or bool(wanted.all()):
            return self.denoise_video(video, sigma, condition)
        wants, others = (which.nonzero()[:, 0].to(video.device) for which in (wanted, ~wanted))
        of_others = None
        if self.config.reads != "present":
            # A gradient that goes nowhere is most of a step's cost.
            with torch.set_grad_enabled(torch.is_grad_enabled() and through > 0):
                of_others = self._read(video[others], sigma[others], condition.map(lambda part: part[others]))
        if not len(wants):
            return video, of_others
        denoised, features = self.denoise_video(video[wants], sigma[wants], condition.map(lambda part: part[wants]))
        back = torch.cat((wants, others)).argsort()
        video = torch.cat((denoised, video[others]))[back]
        if of_others is None:
            return video, None
        pairs = zip(features.taps, of_others.taps, strict=True)
        return video, Features(tuple(torch.cat(pair)[back] for pair in pairs))

    def _read(self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition) -> Features:
        """The features of `denoise_video` without the video."""
        return self.backbone.read(video, sigma, self._shown(video, condition))

    def _shown(self, video: Float[Tensor, "B F C h w"], condition: Condition) -> Condition:
        """What the backbone sees beside the noisy video: in the place of picture and text, the motion if it is read."""
        if not self.reads_motion or condition.origin is None:
            return condition
        return replace(condition, latents=video - condition.origin, text=torch.zeros_like(condition.text))

    def _see(
        self, future: Features | None, sigma: Float[Tensor, "B"], condition: Condition, through: float = 1.0
    ) -> Float[Tensor, "B G"]:
        """The vector of what the head reads; it may read nothing of the future, whose noise level is this."""
        if future is None or self.config.reads == "present":
            present = self.read_present(condition)
            return self.pool_features(present.through(through), torch.full_like(sigma, PRESENT), condition)
        if self.config.reads == "difference":
            pairs = zip(future.taps, self.read_present(condition).taps, strict=True)
            future = Features(tuple((self.unflatten(tap) - now[:, :, None]).flatten(1, 2) for tap, now in pairs))
        return self.pool_features(future.through(through), sigma, condition)

    def _one_frame(self, condition: Condition) -> Condition:
        """What a clip of one frame a view is denoised given."""
        return condition.at(slice(len(self.config.leading), None, self.config.latent_frames))

    def _current(self, condition: Condition) -> Float[Tensor, "B F C h w"]:
        """The current image of each flat frame's view, as what is denoised would show it."""
        return condition.latents[:, :, : self.latents.channels]

    @property
    def _frames_read(self) -> int:
        """Of each view, in what the head sees."""
        return 1 if self.config.reads == "present" else self.config.latent_frames

    def _time(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        embedding = self.backbone.embed(sigma)
        # A video model's embedding is its own: the head reads it and never trains it.
        return embedding.detach() if self.config.generates_video else embedding

    @property
    def _head(self) -> Head:
        if self.head is None:
            raise UserError("this model was trained on video without actions: it imagines but cannot act")
        return self.head
