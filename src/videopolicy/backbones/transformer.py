"""What video transformers share: flow models that denoise all frames at once, behind the current images.

The current image of each view is a frame of its own before the future: clean, at time 0 or nearly, while the others are
noisy. What the network says of it is left out. Of a network that is shown the current images otherwise, that frame is
noisy as the others are, and drawn with them.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.base import Backbone, Condition, Features
from videopolicy.backbones.frames import Arranged, Arrangement
from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.flow import FlowScaling
from videopolicy.errors import UserError


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a video transformer.

    Attributes:
        layers: blocks.
        heads: of attention in each.
        head_channels: channels of an attention head, even.
        patch: side in latents of what becomes one token.
        taps: blocks whose outputs are handed to the adapter, counted from 0.
        views: how several views become one video: side by side in one picture, or one after the other.
    """

    generates_video: ClassVar[bool] = True
    name: ClassVar[str] = ""

    layers: int = limited(6, 1, 1024)
    heads: int = limited(4, 1, 1024)
    head_channels: int = limited(32, 12, 1024)
    patch: int = limited(1, 1, 64)
    taps: tuple[int, ...] = (3,)
    views: Arranged = "width"

    def __post_init__(self) -> None:
        check_limits(self, "backbone")
        if self.head_channels % 2:
            raise UserError(f"head_channels of backbone {self.name!r} are an even number: they are sines and cosines")
        if len(set(self.taps)) < len(self.taps) or any(not 0 <= tap < self.layers for tap in self.taps):
            raise UserError(
                f"taps of backbone {self.name!r} are different blocks, 0 to {self.layers - 1}, not {self.taps}"
            )

    @property
    def prompted(self) -> bool:
        """Whether hidden text is what the text encoder makes of no words; zeros otherwise."""
        return True

    @property
    def width(self) -> int:
        """Channels of a token inside."""
        return self.heads * self.head_channels

    @property
    def draws_current(self) -> bool:
        """Whether the current images are flat frames, too, one a view before all others, and drawn with them."""
        return False

    @property
    def experts(self) -> int:
        """Networks, each for noise levels of its own."""
        return 1

    def shown_channels(self, latent_channels: int) -> int:
        """How many of the conditioning latents' channels the network itself is shown; it learns to read any others."""
        return latent_channels


class VideoTransformer(Backbone):
    """Denoises flat frames jointly in space and time, behind the current images.

    Attributes:
        net: diffusers' transformer.
        beyond: tokens of what the conditioning latents hold beyond the current image's own; None if nothing.
        empty_prompt: the first token of the empty instruction, as the text encoder of pretrained weights gives it;
            zeros otherwise. A text whose first token is zeros, as one that is hidden, begins with it. None if the
            weights were trained with zeros in the place of hidden text.
    """

    scaling = FlowScaling()
    net: Any
    empty_prompt: Tensor | None

    def __init__(
        self, config: TransformerConfig, latent_channels: int, text_width: int, condition_channels: int
    ) -> None:
        super().__init__()
        shown = config.shown_channels(latent_channels)
        if condition_channels < shown:
            raise UserError(
                f"backbone {config.name!r} continues the current image: conditioning latents of {condition_channels} "
                f"channels cannot begin with the {shown} that it is shown"
            )
        self.shape, self._channels, self._shown = config, latent_channels, shown
        self._layout = Arrangement(config.views, drawn=config.draws_current)
        more, patch = condition_channels - shown, config.patch
        self.beyond = nn.Conv2d(more, config.width, patch, patch) if more else None
        self.register_buffer("empty_prompt", torch.zeros(text_width) if config.prompted else None)
        self.time_width, self.tap_channels = config.width, (config.width,) * len(config.taps)

    @property
    def experts(self) -> tuple[Any, ...]:
        """`net`, and what takes its place at other noise levels."""
        return (self.net,)

    @abstractmethod
    def run(
        self,
        frames: Float[Tensor, "B C T h W"],
        clean: int,
        noise: Float[Tensor, "B"],
        text: Float[Tensor, "B L W2"],
        beyond: Float[Tensor, "B d K h2 w2"] | None,
        blocks: int,
    ) -> tuple[Float[Tensor, "B C T h W"], list[Float[Tensor, "B d T h2 w2"]]]:
        """What so many blocks give, and the outputs of those that are tapped; the first only if they are all.

        Args:
            frames: what the network sees of each: noisy latents, behind clean ones.
            clean: frames of the current images, K.
            noise: flow time of the others, 0 to 1.
            text: tokens of each clip.
            beyond: added to the tokens of the current images' frames.
            blocks: how many run.
        """

    def see(self, given: Float[Tensor, "B V Q h w"], video: Float[Tensor, "B F C h w"]) -> Float[Tensor, "B _ T h W"]:
        """What the network sees of each frame of the one video: by default the image clean, the others noisy.

        Args:
            given: conditioning latents of each view.
            video: noisy latents, scaled.
        """
        return self._layout.join(given[:, :, : self._channels], video)

    def arrange(self, views: int, pad: int, side: int) -> None:
        """See `Backbone.arrange`."""
        drawn = self.shape.draws_current
        if drawn and pad < views:
            raise UserError(
                f"backbone {self.shape.name!r} with the current images on channels draws them, too, and cannot stand "
                "inside another backbone; set its image to 'frame'"
            )
        if pad > views * drawn:
            raise UserError(
                f"backbone {self.shape.name!r} is shown the current images as frames of their own; set the model's pad "
                "to 0"
            )
        self._check_patches(side, side)
        self._layout = Arrangement(self.shape.views, views, drawn)

    def unguided(self, condition: Condition) -> Condition:
        """See `Backbone.unguided`: without the text alone, as these models are guided."""
        nothing = torch.ones(len(condition.text), 1, dtype=torch.bool, device=condition.text.device)
        return condition.drop(latents=~nothing, text=nothing)

    def forward(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """See `Backbone.forward`."""
        out, features = self._pass(video, condition, noise, self.shape.layers)
        return self._layout.split(out), features

    def enable_gradient_checkpointing(self) -> None:
        """See `Backbone.enable_gradient_checkpointing`."""
        for net in self.experts:
            net.enable_gradient_checkpointing()

    def read(self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition) -> Features:
        """See `Backbone.read`: no block behind the last tap runs."""
        return self._pass(*self.inputs(video, sigma, condition), max(self.shape.taps, default=-1) + 1)[1]

    def _pass(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"], blocks: int
    ) -> tuple[Float[Tensor, "B C T h W"], Features]:
        self._check_patches(*video.shape[-2:])
        given = self._layout.first(condition.latents)
        frames, clean = self.see(given, video), self._layout.clean()
        beyond = None
        if self.beyond is not None:
            # Arranged as the current images are: a video of them alone.
            more = given[:, :, self._shown :]
            beyond = self.beyond(self._layout.join(more, more[:, :0]).transpose(1, 2).flatten(0, 1))
            beyond = beyond.unflatten(0, (len(video), clean)).transpose(1, 2)
        out, taps = self.run(frames, clean, noise, self._told(condition), beyond, blocks)
        return out, Features(tuple(self._layout.split(tap) for tap in taps))

    def _check_patches(self, height: int, width: int) -> None:
        if height % self.shape.patch or width % self.shape.patch:
            raise UserError(
                f"latents of {width}x{height} do not divide into patches of {self.shape.patch}, as backbone "
                f"{self.shape.name!r} wants; choose a size of images that is a multiple of {self.shape.patch} latents"
            )

    def _told(self, condition: Condition) -> Float[Tensor, "B L W"]:
        """The text; a transformer over all frames hides it from all, or none: as it is from the first."""
        text = condition.text
        if condition.without_text is not None:
            text = text.masked_fill(condition.without_text[:, :1, None], 0)
        if self.empty_prompt is None:
            return text
        first, others = text.split((1, text.shape[1] - 1), 1)
        nothing = ~first.any(2, keepdim=True)
        return torch.cat((torch.where(nothing, self.empty_prompt.to(first), first), others), 1)
