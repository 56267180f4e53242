"""The policy's network: latents, text, backbone and head as one object."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from accelerate import cpu_offload
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from videopolicy.actions.layout import Layout
from videopolicy.actions.relative import Relative
from videopolicy.backbones import unet
from videopolicy.backbones.base import Backbone, Condition, Features
from videopolicy.clips.normalize import MinMax
from videopolicy.clips.windows import Window
from videopolicy.diffusion.edm import Scaling, schedule
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Denoise, Joint
from videopolicy.diffusion.samplers.base import initial_noise
from videopolicy.errors import UserError
from videopolicy.heads import unet1d
from videopolicy.heads.base import Head
from videopolicy.latents import pca
from videopolicy.latents.base import Latents
from videopolicy.registry import entry
from videopolicy.text import hashed_words
from videopolicy.text.base import Text


@dataclass(frozen=True)
class Sampling:
    """How a plan is drawn.

    Attributes:
        sampler: one of `videopolicy.diffusion.samplers`.
        steps: noise levels; each costs one pass of the model.
        sigma_max: the first level.
        sigma_min: the last level above zero.
        guidance: scale over the frames; 1 to 1 is none.
    """

    sampler: str = "euler"
    steps: int = 1
    sigma_max: float = 80.0
    sigma_min: float = 0.02
    guidance: LinearGuidance = LinearGuidance(1.0, 1.0)

    def sigmas(self) -> Float[Tensor, "n+1"]:
        """The noise levels, then zero."""
        return schedule(self.steps, self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class Config:
    """Everything about a policy but its weights.

    Attributes:
        views: cameras, in the order of the flat frames.
        size: pixels of a square image's side.
        window: future frames a view, their stride, and the actions of a chunk.
        residual: whether the video model denoises the difference from the current image, so that what stands still
            costs it nothing to draw; needs conditioning latents that are in the scale of the others.
        pad: flat frames before the first view, copies of that view's current image.
        latents: pixels <-> latents.
        text: instruction -> tokens.
        backbone: the video denoiser.
        head: features -> actions.
        sampling: how a plan is drawn.
        execute: actions of a chunk that are executed before the policy looks again.
        action_layout: what the dimensions of the env's actions mean (see `videopolicy.actions.layout`), "" if nobody
            said.
        state_layout: the same of the env's state; needed for relative actions alone.
        relative: whether the head learns poses relative to the state at the chunk's first step (see
            `videopolicy.actions.relative`); the normaliser is then of relative actions.
        fps: control steps a second of the data that it learns from; None if nobody said.
    """

    views: tuple[str, ...] = ("corner2",)
    size: int = 64
    window: Window = Window(frames=4, stride=8, actions=32)
    pad: int = 0
    residual: bool = False
    latents: Any = field(default_factory=pca.Config)
    text: Any = field(default_factory=hashed_words.Config)
    backbone: Any = field(default_factory=unet.Config)
    head: Any = field(default_factory=unet1d.Config)
    sampling: Sampling = field(default_factory=Sampling)
    execute: int = 16
    action_layout: str = ""
    state_layout: str = ""
    relative: bool = False
    fps: float | None = None

    @property
    def relative_transform(self) -> Relative | None:
        """Between the env's actions and relative ones; None if the head learns the env's own.

        Raises:
            UserError: the spaces are not named, or have no absolute poses.
        """
        if not self.relative:
            return None
        if not self.action_layout or not self.state_layout:
            unnamed = "action" if not self.action_layout else "state"
            raise UserError(
                f"relative actions need the {unnamed} layout, which the data set does not name; convert it with one, "
                "such as 'position quaternion gripper[-1,1]'"
            )
        return Relative(Layout.parse(self.action_layout), Layout.parse(self.state_layout))

    @property
    def learned_layout(self) -> Layout | None:
        """What the actions that the head learns mean; None if nobody said."""
        if relative_transform := self.relative_transform:
            return relative_transform.relative
        return Layout.parse(self.action_layout) if self.action_layout else None

    @property
    def imagines(self) -> bool:
        """Whether its backbone draws video."""
        with torch.device("meta"):
            return self.backbone.build(1, 1).imagines

    @property
    def flat_frames(self) -> int:
        """F = pad + V * T."""
        return self.pad + len(self.views) * self.window.frames

    def build(self, normalizer: MinMax | None) -> "VideoActionModel":
        """A policy with fresh weights; without a normaliser it has no head and only imagines."""
        return VideoActionModel(self, normalizer)


class VideoActionModel(nn.Module):
    """A video denoiser and the head that reads actions out of its features.

    Attributes:
        config: what it was built from.
        normalizer: the env's units (of relative actions, if it learns those) <-> the head's; None for a model of
            video alone.
    """

    def __init__(self, config: Config, normalizer: MinMax | None) -> None:
        super().__init__()
        self.config = config
        self.normalizer = normalizer
        _check_width(config, self.action_width)
        self.latents: Latents = config.latents.build()
        self.text: Text = config.text.build()
        self.backbone: Backbone = config.backbone.build(self.latents.channels, self.text.width)
        views, frames, width = len(config.views), config.window.frames, self.action_width
        taps, time = self.backbone.tap_channels, self.backbone.time_width
        self.head: Head | None = config.head.build(taps, time, views, frames, width) if width else None
        if self.head is not None and config.window.actions % self.head.multiple:
            raise UserError(
                f"a chunk of {config.window.actions} actions does not suit the head; "
                f"its length must be a multiple of {self.head.multiple}"
            )

    @property
    def action_width(self) -> int:
        """Of the actions that the head learns; 0 for a model of video alone."""
        return len(self.normalizer.low) if self.normalizer else 0

    @property
    def device(self) -> torch.device:
        """Where it computes; the latents are always there, other parts may be parked elsewhere."""
        return next(chain(self.latents.parameters(), self.latents.buffers())).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights; whatever is sampled stays in float32."""
        return next(self.backbone.parameters()).dtype

    def offload(self, device: torch.device | str) -> None:
        """Computes on this device from now on, with the video model and the head parked in main memory.

        Each layer's weights are fetched when it runs: slow, but the device holds one layer at a time.
        """
        self.latents.to(device)
        for part in (self.backbone, self.head):
            if part is not None:
                cpu_offload(part, torch.device(device))

    def flatten(self, views: Float[Tensor, "B V T C h w"], pad: Float[Tensor, "B C h w"]) -> Float[Tensor, "B F C h w"]:
        """Frames of every view, one view after the other, behind `pad` repeated as often as the model wants it."""
        return torch.cat((pad[:, None].expand(-1, self.config.pad, -1, -1, -1), views.flatten(1, 2)), 1)

    def unflatten(self, flat: Shaped[Tensor, "B F *s"]) -> Shaped[Tensor, "B V T *s"]:
        """The frames of every view, without the pad."""
        return flat[:, self.config.pad :].unflatten(1, (len(self.config.views), self.config.window.frames))

    @torch.no_grad()
    def decode(self, video: Float[Tensor, "B F C h w"]) -> UInt8[Tensor, "B V T H W 3"]:
        """RGB frames of every view; the flat frames of a clip go together, as a decoder that looks over time wants."""
        return self.unflatten(torch.stack([self.latents.decode(clip) for clip in video]))

    def condition(
        self,
        codes: Float[Tensor, "B V K h w"],
        instructions: Sequence[str],
        noise: Float[Tensor, "B V C h w"] | None = None,
    ) -> Condition:
        """What to denoise given: each flat frame gets its own view's current image, and the instruction.

        Args:
            codes: of the current image of every view.
            instructions: one a clip.
            noise: added to the latents of each image, if given; all frames of a view share it.
        """
        latents = self.latents.condition(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        latents = latents if noise is None else latents + noise
        every = latents[:, :, None].expand(-1, -1, self.config.window.frames, -1, -1, -1)
        tokens = self.text(instructions).to(latents.device)[:, None].expand(-1, self.config.flat_frames, -1, -1)
        return Condition(self.flatten(every, latents[:, 0]), tokens)

    def blank(self, batch: int) -> Joint:
        """Zeros of a sample's shapes."""
        side = self.config.size // self.latents.downsampling
        video = torch.zeros(batch, self.config.flat_frames, self.latents.channels, side, side, device=self.device)
        return Joint(video, video.new_zeros(batch, self.config.window.actions, self.action_width))

    def denoise_video(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """The best guess of the clean video, and the features that the head reads."""
        scale = Scaling()(sigma[:, None, None, None, None])
        origin = condition.latents if self.config.residual else torch.zeros_like(condition.latents)
        moved = video - origin
        features = self.backbone((moved * scale.inp).to(self.dtype), condition.to(self.dtype), scale.noise.flatten())
        return origin + scale.skip * moved + scale.out * features.video.float(), features

    def read(self, features: Features, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B G"]:
        """One vector of the features of all views' frames, seen at this noise level."""
        taps = tuple(self.unflatten(tap) for tap in features.taps)
        return self._head.adapt(taps, self._time(sigma))

    def denoise_actions(
        self, actions: Float[Tensor, "B A D"], sigma: Float[Tensor, "B"], vector: Float[Tensor, "B G"]
    ) -> Float[Tensor, "B A D"]:
        """The best guess of the clean actions, given what `read` found."""
        scale = Scaling()(sigma[:, None, None])
        denoised = self._head((actions * scale.inp).to(self.dtype), vector, self._time(sigma))
        return scale.skip * actions + scale.out * denoised.float()

    def _time(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        embedding = self.backbone.embed(Scaling()(sigma).noise)
        # A video model's embedding is its own: the head reads it and never trains it.
        return embedding.detach() if self.backbone.imagines else embedding

    @property
    def _head(self) -> Head:
        if self.head is None:
            raise UserError("this model was trained on video without actions: it imagines but cannot act")
        return self.head

    @torch.no_grad()
    def sample(self, condition: Condition, noise: Joint, sampling: Sampling) -> Joint:
        """Draws video latents and normalised actions.

        Args:
            condition: what to go by.
            noise: standard normal, of the shapes of `blank`.
            sampling: how.
        """
        sigmas = sampling.sigmas().to(self.device)
        start = initial_noise(noise, sigmas[0])
        denoise = sampling.guidance.guided(Denoiser(self, condition), Denoiser(self, condition.unconditional()))
        return entry("samplers", sampling.sampler)(denoise, start, sigmas)


def _check_width(config: Config, width: int) -> None:
    space = config.learned_layout if width else None
    if space and space.width != width:
        raise UserError(f"actions are {width} wide, but their space {str(space)!r} has {space.width} dimensions")


@dataclass(frozen=True)
class Denoiser:
    """A model and what it goes by, as samplers want them (`videopolicy.diffusion.joint.Freezable`)."""

    model: VideoActionModel
    condition: Condition

    def __call__(self, x: Joint, sigma: Float[Tensor, "*B"]) -> Joint:
        """Video and actions at the same noise level."""
        sigma = sigma.expand(len(x.video))
        video, features = self.model.denoise_video(x.video, sigma, self.condition)
        if self.model.head is None:
            return Joint(video, x.actions)
        vector = self.model.read(features, sigma)
        return Joint(video, self.model.denoise_actions(x.actions, sigma, vector))

    def freeze(self, x: Joint, sigma: Float[Tensor, "*B"]) -> Denoise:
        """Looks at the video once, at this level; from then on only the head runs."""
        sigma = sigma.expand(len(x.video))
        video, features = self.model.denoise_video(x.video, sigma, self.condition)
        vector = self.model.read(features, sigma)

        def actions_only(x: Joint, sigma: Float[Tensor, "*B"]) -> Joint:
            return Joint(video, self.model.denoise_actions(x.actions, sigma.expand(len(video)), vector))

        return actions_only
