"""What a model is: a denoiser of video and actions, with what brings images, words and actions to it and back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from accelerate import cpu_offload
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor, nn

from videopolicy.actions.layout import Layout
from videopolicy.actions.relative import Relative
from videopolicy.backbones.base import Backbone, Condition
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.statistics import FrameStatistics
from videopolicy.clips.windows import Window
from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.clocks import Clocks
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Denoise, Freezable, Joint, Levels
from videopolicy.diffusion.loss import Counts
from videopolicy.errors import UserError, unknown
from videopolicy.latents import pca
from videopolicy.latents.base import Latents
from videopolicy.models.denoiser import Denoiser
from videopolicy.models.sampling import EXACT, Sampling
from videopolicy.text import hashed_words
from videopolicy.text.base import Text


@dataclass(frozen=True)
class ModelConfig(ABC):
    """Everything about a model but its weights, as far as all kinds of models share it.

    Attributes:
        views: cameras, in the order of the flat frames.
        size: pixels of a square image's side.
        fit: how an image of another size becomes one of these (see `videopolicy.images.fit_to_size`).
        window: future frames a view, their stride, and the actions of a chunk.
        pad: flat frames before the first view, copies of that view's current image.
        latents: pixels <-> latents.
        text: instruction -> tokens.
        sampling: how a plan is drawn: mode "exact".
        modes: other ways to draw one, by name, such as the "fast" one that `videopolicy tune` finds.
        execute: actions of a chunk that are executed before the policy observes again.
        action_layout: what the dimensions of the env's actions mean (see `videopolicy.actions.layout`), "" if
            unspecified.
        state_layout: the same of the env's state; needed for relative actions.
        relative: whether the model learns poses relative to the state at the chunk's first step (see
            `videopolicy.actions.relative`); the normaliser is then of relative actions.
        fps: control steps a second of the data that it learns from; None if unspecified.
        proprioception: whether the actions are read out of the robot's state, too.
        state_width: S of that state, as the data have it; 0 while it is unknown.
        committed: the most actions at the beginning of a chunk that it learns to continue, as they will be executed
            before the chunk arrives (Black et al. 2025, arXiv 2512.05964).
    """

    views: tuple[str, ...] = ("corner2",)
    size: int = limited(64, 1, 2**14)
    fit: Literal["middle_square"] = "middle_square"
    window: Window = Window(frames=4, stride=8, actions=32)
    pad: int = limited(0, 0, 1024)
    latents: Any = field(default_factory=pca.Config)
    text: Any = field(default_factory=hashed_words.Config)
    sampling: Sampling = field(default_factory=Sampling)
    modes: dict[str, Sampling] = field(default_factory=dict, hash=False)
    execute: int = limited(16, 1, 10**6)
    action_layout: str = ""
    state_layout: str = ""
    relative: bool = False
    fps: float | None = limited(None, 0.001, 10**6)
    proprioception: bool = False
    state_width: int = limited(0, 0, 10**4)
    committed: int = limited(0, 0, 10**4)

    def __post_init__(self) -> None:
        check_limits(self, "model")

    def mode(self, name: str) -> Sampling:
        """How a plan is drawn in the mode of this name.

        Raises:
            UserError: there is none; the message lists the known ones.
        """
        if name == EXACT:
            return self.sampling
        if name not in self.modes:
            advice = "" if self.modes else "; videopolicy tune finds a fast one"
            raise UserError(f"{unknown('mode', name, (EXACT, *self.modes))}{advice}")
        return self.modes[name]

    @property
    def relative_transform(self) -> Relative | None:
        """Between the env's actions and relative ones, if it learns those; UserError if no layouts name their poses."""
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
        """What the actions that the model learns mean; None if unspecified."""
        if relative := self.relative_transform:
            return relative.relative
        return Layout.parse(self.action_layout) if self.action_layout else None

    @property
    @abstractmethod
    def generates_video(self) -> bool:
        """Whether it denoises video; otherwise it acts by the current images alone."""

    @property
    def leading(self) -> tuple[int, ...]:
        """Of which view each flat frame before the first view's future is the current image."""
        return (0,) * self.pad

    @property
    def flat_frames(self) -> int:
        """F: those before, and V * t."""
        return len(self.leading) + len(self.views) * self.latent_frames

    @property
    def latent_frames(self) -> int:
        """t, latents along time that a view's T future frames become; T of latents that encode every frame alone.

        Raises:
            UserError: T is no multiple of the frames that become one latent.
        """
        return self.window.latent_frames(self.latents.temporal)

    @abstractmethod
    def build(self, normalizer: Normalizer | None) -> "Model":
        """A model with fresh weights; without a normaliser it has no actions and only imagines."""


class Model(nn.Module, ABC):
    """A denoiser of `Joint`.

    Attributes:
        config: what it was built from.
        normalizer: the env's units (of relative actions, if it learns those) <-> the model's; None for a model of
            video alone.
        state_normalizer: the env's units of the state <-> the model's; None without proprioception.
        frame_statistics: view -> what the frames that it learnt from look like; {} if unknown.
        latents: pixels <-> latents.
        text: instruction -> tokens.
        backbone: the video denoiser.
        takes_actions: whether noisy actions enter the video model, so that given ones change the video.
        reads_state: whether it can read the robot's state.
        reads_future: whether the actions are read out of the noisy video, so that a given one leads to others.
        reads_motion: whether they are read out of nothing else, so that it labels video, and cannot act.
        looks_once: whether the video model runs once in `freeze`, however many steps the actions take from there.
    """

    backbone: Backbone
    takes_actions: ClassVar[bool] = False
    reads_state: ClassVar[bool] = False
    reads_future: bool = True
    reads_motion: bool = False
    looks_once: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, normalizer: Normalizer | None) -> None:
        super().__init__()
        self.config = config
        self.normalizer = normalizer
        self.state_normalizer: Normalizer | None = None
        self.frame_statistics: Mapping[str, FrameStatistics] = {}
        width, layout = self.action_width, config.learned_layout if self.action_width else None
        if layout and layout.width != width:
            raise UserError(f"actions are {width} wide, but their layout {str(layout)!r} has {layout.width} dimensions")
        if config.proprioception and not self.reads_state:
            raise UserError("this kind of model reads no state of the robot; leave --proprioception out")
        self.latents: Latents = config.latents.build()
        self.text: Text = config.text.build()

    @abstractmethod
    def denoise(
        self,
        x: Joint,
        levels: Levels,
        condition: Condition,
        *,
        through: float = 1.0,
        wanted: Bool[Tensor, "B"] | None = None,
    ) -> Joint:
        """The best guess of the clean sample; a model of video alone gives the actions back as they came.

        Args:
            x: a noisy sample, (B, ...).
            levels: its noise levels, (B,).
            condition: what it is denoised given.
            through: the share of the gradient of the actions that goes on through the video's features; 0 stops it.
            wanted: of which samples the video is; the others' may come back as it came. None: of all.
        """

    @abstractmethod
    def freeze(self, x: Joint, levels: Levels, condition: Condition, *, see: bool = True) -> Denoise:
        """Leaves the video as noisy as it is; from then on only actions are denoised, beside the video denoised here.

        The video model runs once; where `looks_once` is false, with every step of the actions, and the video denoised
        is then the last one. A kind of model that cannot do either raises UserError.

        Args:
            x: a noisy sample, (B, ...).
            levels: its noise levels, one a sample, (B,).
            condition: what it is denoised given.
            see: whether the video is wanted; otherwise it stays noisy, and less of the video model may run.
        """

    def video_alone(self, x: Joint, levels: Levels, condition: Condition) -> Float[Tensor, "B F C h w"]:
        """The video of what `denoise` answers, for whoever has no use for the actions yet."""
        return self.denoise(x, levels, condition).video

    def reveal(
        self,
        condition: Condition,
        clean: Joint,
        counts: Counts,
        has_actions: Bool[Tensor, "B"],
        seeds: Int64[Tensor, "B"],
    ) -> tuple[Condition, Counts]:
        """The condition with what training shows of the truth, and what then counts: by default nothing, and all.

        Args:
            condition: what the clips are denoised given.
            clean: the truth; it may hold anything as the actions of a clip that has none.
            counts: what the stage counts of them, on the CPU.
            has_actions: which clips have actions, on the CPU, whether they count or not.
            seeds: of what is drawn for each clip, on the CPU, so that no clip heeds the ones beside it.
        """
        return condition, counts

    @property
    @abstractmethod
    def action_modules(self) -> tuple[nn.Module, ...]:
        """What learns the actions alone; none for a model of video."""

    @property
    def acts(self) -> bool:
        """Whether it denoises actions, too."""
        return bool(self.action_width)

    @property
    def action_width(self) -> int:
        """Of the actions that the model learns; 0 for a model of video alone."""
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
        for part in (self.backbone, *self.action_modules):
            cpu_offload(part, torch.device(device))

    def flatten(
        self, views: Float[Tensor, "B V t C h w"], current: Float[Tensor, "B V C h w"]
    ) -> Float[Tensor, "B F C h w"]:
        """Frames of every view, one view after the other, behind as many current images as the model wants there."""
        return torch.cat((current[:, list(self.config.leading)], views.flatten(1, 2)), 1)

    def unflatten(self, flat: Shaped[Tensor, "B F *s"]) -> Shaped[Tensor, "B V t *s"]:
        """The flat frames of every view, without the current images before them."""
        future = flat[:, len(self.config.leading) :]
        return future.unflatten(1, (len(self.config.views), self.config.latent_frames))

    def likeliest(
        self, future: Float[Tensor, "B V t K h w"], current: Float[Tensor, "B V K h w"]
    ) -> Float[Tensor, "B F C h w"]:
        """The most likely latents of the flat frames, of codes of the future frames and of the current images."""
        frames = self.latents.sample(future.flatten(0, 2), None).unflatten(0, future.shape[:3])
        return self.flatten(frames, self.latents.sample(current.flatten(0, 1), None).unflatten(0, current.shape[:2]))

    @torch.no_grad()
    def decode(
        self, video: Float[Tensor, "B F C h w"], current: Float[Tensor, "B V K h w"]
    ) -> UInt8[Tensor, "B V T H W 3"]:
        """RGB frames of every view.

        Args:
            video: latents of the flat frames; those of a clip go together, as a decoder across frames wants.
            current: codes of the current images, which latents over time are decoded behind.
        """
        if self.latents.temporal == 1:
            return self.unflatten(torch.stack([self.latents.decode(clip) for clip in video]))
        first = self.latents.sample(current.flatten(0, 1), None)[:, None]
        windows = torch.cat((first, self.unflatten(video).flatten(0, 1)), 1)
        return self.latents.decode_window(windows)[:, 1:].unflatten(0, current.shape[:2])

    def condition(
        self,
        codes: Float[Tensor, "B V K h w"],
        instructions: Sequence[str],
        noise: Float[Tensor, "B V Q h w"] | None = None,
        states: Float[Tensor, "B S"] | None = None,
    ) -> Condition:
        """What to denoise given: each flat frame gets its own view's current image, and the instruction.

        Args:
            codes: of the current image of every view.
            instructions: one a clip.
            noise: added to the latents of each image, if given; all frames of a view share it.
            states: the robot's, normalised; None hides them from a model that reads them.
        """
        latents = self.latents.condition(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        latents = latents if noise is None else latents + noise
        text = self.text.tell(instructions, latents.device)
        return Condition(self._of_each_frame(latents), text, state=self._state(states, latents))

    def blank(self, batch: int) -> Joint:
        """Zeros of a sample's shapes."""
        side = self.config.size // self.latents.downsampling
        video = torch.zeros(batch, self.config.flat_frames, self.latents.channels, side, side, device=self.device)
        return Joint(video, video.new_zeros(batch, self.config.window.actions, self.action_width))

    def guided(self, condition: Condition, guidance: LinearGuidance, *, see: bool = True) -> Freezable:
        """The model and what it goes by, as samplers want them, with this guidance; `see` is that of `freeze`."""
        if guidance.off:
            return Denoiser(self, condition, see)
        return guidance.guided(Denoiser(self, Condition.cat((condition, self.backbone.unguided(condition))), see))

    def unmoved(self, codes: Float[Tensor, "B V K h w"], actions: Float[Tensor, "B A D"]) -> Joint:
        """What a warm start begins from: these actions, beside a video in which nothing moves.

        Args:
            codes: of the current image of every view.
            actions: normalised.
        """
        latents = self.latents.sample(codes.flatten(0, 1), None).unflatten(0, codes.shape[:2])
        return Joint(self._of_each_frame(latents), actions)

    def _state(self, states: Float[Tensor, "B S"] | None, like: Tensor) -> Float[Tensor, "B _"] | None:
        if not self.config.proprioception:
            return None
        if states is None:
            return like.new_zeros(len(like), self.config.state_width + 1)
        return torch.cat((states, states.new_ones(len(states), 1)), 1)

    def _of_each_frame(self, latents: Float[Tensor, "B V _ h w"]) -> Float[Tensor, "B F _ h w"]:
        """Each flat frame gets the latents of its own view's current image."""
        every = latents[:, :, None].expand(-1, -1, self.config.latent_frames, -1, -1, -1)
        return self.flatten(every, latents)

    @torch.no_grad()
    def sample(
        self, condition: Condition, noise: Joint, sampling: Sampling, *, see: bool = True, guess: Joint | None = None
    ) -> Joint:
        """Draws video latents and normalised actions.

        Args:
            condition: what to go by.
            noise: standard normal, of the shapes of `blank`.
            sampling: how.
            see: whether the video is wanted; otherwise it may be anything.
            guess: what a warm start begins from, of the same shapes; None begins from noise.
        """
        # A video that is looked at once need not become clean for its features to be read.
        see = see or len(sampling.asked().video.unique()) > 1
        with self.backbone.reusing(sampling.reuse):
            return sampling.draw(self.guided(condition, sampling.guidance, see=see), noise, guess)

    @torch.no_grad()
    def predict(
        self, condition: Condition, noise: Joint, sampling: Sampling, clocks: Clocks, given: Joint | None = None
    ) -> Joint:
        """Draws video latents or normalised actions beside what is given, over the sampling's noise levels.

        Args:
            condition: what to go by.
            noise: standard normal, of the shapes of `blank`.
            sampling: noise levels, guidance and reuse; Euler's method, whatever its sampler.
            clocks: what is drawn, and what the other part is meanwhile.
            given: the truth; a part whose clock is another may be anything.

        Raises:
            UserError: actions are given to a model that takes none.
        """
        clocks.check(takes_actions=self.takes_actions, reads_future=self.reads_future)
        with self.backbone.reusing(sampling.reuse):
            denoise = self.guided(condition, sampling.guidance, see=clocks.video == "falls")
            return clocks.draw(denoise, noise, sampling.levels(), sampling.clean, given)
