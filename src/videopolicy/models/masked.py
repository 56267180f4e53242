"""Video and actions out of a future with holes (Li et al. 2025, Unified Video Action Model, arXiv 2503.00200).

Nothing noisy enters the backbone: it is shown the current images, the instruction, and of the future what is known,
with a learned vector everywhere else. One pass of it is read by two small denoisers, of pixels and of actions. What is
known decides what the model does: nothing makes it a policy, the video an inverse model, the actions a forward model.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from videopolicy.backbones.base import Backbone, Condition, Known
from videopolicy.clips.normalize import Normalizer
from videopolicy.configs import limited
from videopolicy.diffusion.joint import Denoise, Joint, Levels
from videopolicy.diffusion.loss import Counts
from videopolicy.errors import UserError, unknown
from videopolicy.latents.base import Latents
from videopolicy.models import video_action
from videopolicy.models.masked_backbone import MaskedBackbone, PixelConfig, Seen
from videopolicy.models.masking import MODES, draw_lessons
from videopolicy.models.video_action import VideoActionModel


@dataclass(frozen=True)
class Config(video_action.Config):
    """A backbone, a head of pixels and a head of actions; see `ModelConfig` for what all models share.

    Attributes:
        training_modes: what it learns, out of `masking.MODES`; each clip draws one.
        move_channels: E, channels that bring the actions of a frame to the backbone.
        pixels: the network that draws a pixel.
    """

    training_modes: tuple[str, ...] = tuple(MODES)
    move_channels: int = limited(32, 1, 2**16)
    pixels: PixelConfig = field(default_factory=PixelConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reads != "future":
            raise UserError(f"a masked model reads the future with holes, not {self.reads!r}; leave `reads` as it is")
        if not self.training_modes or len(set(self.training_modes)) < len(self.training_modes):
            raise UserError(
                f"training_modes are one or more of {', '.join(MODES)}, each once, not {self.training_modes}"
            )
        for name in self.training_modes:
            if name not in MODES:
                raise unknown("training mode", name, MODES)

    def build_backbone(self, latents: Latents, text_width: int) -> Backbone:
        """See `video_action.Config.build_backbone`."""
        extra = self.move_channels
        inner = self.backbone.build(latents.channels + extra, text_width, latents.condition_channels + extra)
        return MaskedBackbone(inner, self.pixels, latents.channels, extra)

    def build(self, normalizer: Normalizer | None) -> "MaskedModel":
        """See `ModelConfig.build`."""
        return MaskedModel(self, normalizer)


class MaskedModel(VideoActionModel):
    """The backbone runs once; both heads denoise what they are given from its features.

    Attributes:
        action_encoder: the actions of one latent frame -> their codes; None for a model of video alone.
    """

    config: Config
    backbone: MaskedBackbone

    def __init__(self, config: Config, normalizer: Normalizer | None) -> None:
        super().__init__(config, normalizer)
        # What is noisy enters neither head's view of the scene; a given video would have to be shown as known.
        self.reads_future = False
        steps, frames = config.window.actions, config.latent_frames
        if steps % frames:
            raise UserError(
                f"a masked model gives every latent frame its share of the actions; {steps} of them do not divide "
                f"among {frames} frames"
            )
        width = steps // frames * self.action_width
        self.action_encoder = nn.Linear(width, config.move_channels) if width else None

    @property
    def action_modules(self) -> tuple[nn.Module, ...]:
        """See `Model.action_modules`."""
        return (*super().action_modules, *(() if self.action_encoder is None else (self.action_encoder,)))

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
        see = wanted is None or bool(wanted.any())
        return self._looked(condition, see=see, through=through)(x, levels)

    def freeze(self, x: Joint, levels: Levels, condition: Condition, *, see: bool = True) -> Denoise:
        """See `Model.freeze`; as one pass does for every noise level, the video goes on being denoised, too."""
        return self._looked(condition, see=see)

    def encode_known(self, condition: Condition) -> Seen:
        """One pass of the backbone."""
        return self.backbone.encode_known(condition)

    def denoise_pixels(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition, seen: Seen
    ) -> Float[Tensor, "B F C h w"]:
        """The best guess of the clean video, given the pass of `encode_known`."""
        return self.backbone.answer(video, sigma, condition, seen)

    def knowing(
        self,
        condition: Condition,
        clean: Joint,
        pixels: Bool[Tensor, "B h w"],
        actions: Bool[Tensor, "B"],
        image: Bool[Tensor, "B"],
    ) -> Condition:
        """The condition with what is shown of the truth.

        Args:
            condition: what there is to go by.
            clean: the truth; it may hold anything where it is not shown.
            pixels: which pixels of the video are shown, in all flat frames alike.
            actions: which clips are shown their actions, all of them.
            image: which clips are shown their current images.
        """
        condition = condition.drop(latents=~image[:, None], text=torch.zeros_like(image)[:, None])
        # Current images stand before the future.
        current, future = clean.video.tensor_split((len(self.config.leading),), 1)
        video = torch.cat((current.masked_fill(~image[:, None, None, None, None], 0), future), 1)
        return replace(condition, known=Known(video, pixels, self._moves(clean.actions, actions)))

    def reveal(
        self,
        condition: Condition,
        clean: Joint,
        counts: Counts,
        has_actions: Bool[Tensor, "B"],
        seeds: Int64[Tensor, "B"],
    ) -> tuple[Condition, Counts]:
        """See `Model.reveal`: each clip draws one of the training modes, and a mask."""
        condition, counts = super().reveal(condition, clean, counts, has_actions, seeds)
        modes = [MODES[name] for name in self.config.training_modes]
        height, width = clean.video.shape[-2:]
        lessons = draw_lessons(modes, counts, has_actions, seeds, (height, width))
        shown = (part.to(self.device) for part in (lessons.pixels, lessons.actions, lessons.image))
        return self.knowing(condition, clean, *shown), lessons.counts

    def _looked(self, condition: Condition, *, see: bool, through: float = 1.0) -> Denoise:
        """Runs the backbone, of which actions alone need no more than its features; then both heads answer."""
        ones = condition.latents.new_ones(len(condition.latents))
        seen = self.encode_known(condition) if see else None
        features = seen.features if seen else self.backbone.read(condition.latents, ones, condition)
        vector = None
        if self.head is not None:
            # The features are those of no noise level.
            vector = self.pool_features(features.through(through), ones, condition)

        def answer(x: Joint, levels: Levels) -> Joint:
            levels = levels.each(x)
            video = x.video if seen is None else self.denoise_pixels(x.video, levels.video, condition, seen)
            if vector is None:
                return Joint(video, x.actions)
            return Joint(video, self.denoise_actions(x.actions, levels.actions, vector, condition))

        return answer

    def _moves(self, actions: Float[Tensor, "B A D"], shown: Bool[Tensor, "B"]) -> Float[Tensor, "B F E 1 1"]:
        """Codes of the actions of each flat frame, alike in every view; zeros before the future and where not shown."""
        config, clips = self.config, len(actions)
        frames = config.latent_frames
        codes = actions.new_zeros(clips, frames, config.move_channels)
        if self.action_encoder is not None:
            hidden = ~shown[:, None, None]
            # Masked before they are encoded: the gradient of a NaN that is masked later is one.
            given = actions.masked_fill(hidden, 0).unflatten(1, (frames, -1)).flatten(2)
            codes = self.action_encoder(given).masked_fill(hidden, 0)
        every = codes[:, None, :, :, None, None].expand(-1, len(config.views), -1, -1, -1, -1)
        return self.flatten(every, torch.zeros_like(every[:, :, 0]))
