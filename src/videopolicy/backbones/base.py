"""The contract of a backbone: noisy latents in, denoised latents and features out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from videopolicy.diffusion.edm import Preconditioning, Scaling
from videopolicy.diffusion.inpainting import Earlier
from videopolicy.errors import UserError


@dataclass(frozen=True)
class Known:
    """What a masked model is shown of the truth, none of it noisy (see `videopolicy.models.masked`).

    Attributes:
        video: clean latents of the flat frames.
        pixels: which of their pixels are shown, in all flat frames alike.
        moves: codes of the actions of each flat frame, (B, F, E, 1, 1); zeros where they are not shown.
    """

    video: Float[Tensor, "B F C h w"]
    pixels: Bool[Tensor, "B h w"]
    moves: Float[Tensor, "B F E 1 1"]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Known":
        """The same change of every tensor."""
        return Known(change(self.video), change(self.pixels), change(self.moves))


@dataclass(frozen=True)
class Condition:
    """What a video is denoised given.

    The text is held once a clip, whichever frames are not shown it. A backbone may copy it within its pass: the U-Net's
    attention wants tokens of every frame, and over time of every pixel.

    Attributes:
        latents: conditioning latents of the current image of each flat frame's own view, (B, F, Q, h, w); Q may differ
            from the C channels of what is denoised.
        text: tokens of each clip's instruction, (B, L, W).
        without_text: flat frames that are not shown the instruction, (B, F); None if all are.
        origin: what the video is denoised as a difference from, of its own shape; None if it is denoised as it is.
        known: what a masked model is shown of the truth; None if nothing.
        state: the robot's state of each clip, normalised, and a 1; zeros where it is hidden, (B, S + 1). It is for the
            head, as no video is denoised by it; None if the model reads no state.
        committed: the chunk's actions, normalised, that will be executed whatever it says, and a 1; zeros at all other
            steps, (B, A, D + 1). For the head, as the state is; None if the model continues no actions.
        earlier: a plan that samplers go on from, where the model has not learnt to; None if there is none.
    """

    latents: Float[Tensor, "B F Q h w"]
    text: Float[Tensor, "B L W"]
    without_text: Bool[Tensor, "B F"] | None = None
    origin: Float[Tensor, "B F C h w"] | None = None
    known: Known | None = None
    state: Float[Tensor, "B _"] | None = None
    committed: Float[Tensor, "B A _"] | None = None
    earlier: Earlier | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        """The same change of every tensor that there is."""
        without_text, origin, state, committed = (
            None if part is None else change(part)
            for part in (self.without_text, self.origin, self.state, self.committed)
        )
        known = None if self.known is None else self.known.map(change)
        earlier = None if self.earlier is None else self.earlier.map(change)
        latents, text = change(self.latents), change(self.text)
        return Condition(latents, text, without_text, origin, known, state, committed, earlier)

    def to(self, dtype: torch.dtype) -> "Condition":
        """The same for a network in another precision; origin, state and actions are none of its business."""
        return replace(self, latents=self.latents.to(dtype), text=self.text.to(dtype))

    @staticmethod
    def cat(conditions: "Sequence[Condition]") -> "Condition":
        """Joins conditions of one kind along the batch."""
        return _joined(conditions)

    def unconditional(self) -> "Condition":
        """The same with nothing to go by: zeros, what dropout shows in training."""
        state = None if self.state is None else torch.zeros_like(self.state)
        return replace(self, latents=torch.zeros_like(self.latents), text=torch.zeros_like(self.text), state=state)

    def commit(self, actions: Float[Tensor, "B A D"], steps: Int64[Tensor, "B"]) -> "Condition":
        """The first actions of each chunk are committed: so many of these, normalised; the others may be anything."""
        first = torch.arange(actions.shape[1], device=actions.device) < steps.to(actions.device)[:, None]
        shown = actions.masked_fill(~first[:, :, None], 0)
        return replace(self, committed=torch.cat((shown, first[:, :, None].to(shown.dtype)), 2))

    def hide_state(self, hidden: Bool[Tensor, "B"]) -> "Condition":
        """Hides the state, if there is one, of the clips that are marked True."""
        return self if self.state is None else replace(self, state=self.state.masked_fill(hidden[:, None], 0))

    def at(self, frames: slice) -> "Condition":
        """What some of the flat frames are denoised given."""
        without_text = None if self.without_text is None else self.without_text[:, frames]
        origin = None if self.origin is None else self.origin[:, frames]
        return replace(self, latents=self.latents[:, frames], without_text=without_text, origin=origin)

    def drop(self, latents: Bool[Tensor, "B G"], text: Bool[Tensor, "B G"]) -> "Condition":
        """Hides latents and text where marked True: of every flat frame by itself (G = F) or of whole clips (G = 1)."""
        hidden = replace(self, latents=self.latents.masked_fill(latents[:, :, None, None, None], 0))
        if text.shape[1] == 1:
            return replace(hidden, text=self.text.masked_fill(text[:, :, None], 0))
        return replace(hidden, without_text=text)


@dataclass(frozen=True)
class Features:
    """What the head is shown of one pass of a backbone.

    Attributes:
        taps: inner activations handed to the adapter, one (B, F, C_i, h_i, w_i) each, in the order of
            `Backbone.tap_channels`.
    """

    taps: tuple[Float[Tensor, "B F _ _ _"], ...]

    def through(self, share: float) -> "Features":
        """The same values, with this share of the gradient into the backbone; with 0 they are detached from it."""
        if share == 1:
            return self
        return Features(tuple(torch.lerp(tap.detach(), tap, share) if share else tap.detach() for tap in self.taps))


class Backbone(nn.Module, ABC):
    """A video denoiser whose inner features can be read; it owns its parameterisation.

    By default that is EDM's (`videopolicy.diffusion.edm.Scaling`), with `forward` and `embed_noise` as the network in
    it; a backbone of another one has another `scaling`, such as `videopolicy.diffusion.flow.FlowScaling`, or overrides
    `denoise` and `embed`.

    Attributes:
        scaling: what surrounds the network at each noise level.
        tap_channels: channels C_i of each tap.
        time_width: width E of the noise level's embedding.
        repeated_blocks: class names of the modules that it repeats: compiled, and sharded, one by one.
        lora_targets: endings of the names of the linear layers that LoRA adapts; none if it cannot be adapted.
        holds_deep: whether `reusing` can hold the output of its deep blocks.
        encodes: whether it sees the current images through an encoder of its own, once for all passes.
    """

    tap_channels: tuple[int, ...]
    time_width: int
    scaling: ClassVar[Preconditioning] = Scaling()
    repeated_blocks: tuple[str, ...] = ()
    lora_targets: tuple[str, ...] = ()
    holds_deep: ClassVar[bool] = False
    encodes: ClassVar[bool] = False

    def denoise(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """The best guess of the clean video at this noise level, in float32 whatever the network's precision.

        Args:
            video: clean + sigma * noise, float32.
            sigma: noise level of each sample.
            condition: what the video is denoised given.
        """
        out, features = self(*self.inputs(video, sigma, condition))
        return self.outputs(out, video, sigma, condition), features

    def inputs(
        self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition
    ) -> tuple[Float[Tensor, "B F C h w"], Condition, Float[Tensor, "B"]]:
        """What `forward` is given to denoise this video: scaled, and in the network's precision."""
        scale, dtype = self.scaling(sigma[:, None, None, None, None]), next(self.parameters()).dtype
        noisy = _shifted(video, condition) * scale.inp
        return noisy.to(dtype), condition.to(dtype), scale.noise.flatten()

    def outputs(
        self,
        out: Float[Tensor, "B F C h w"],
        video: Float[Tensor, "B F C h w"],
        sigma: Float[Tensor, "B"],
        condition: Condition,
    ) -> Float[Tensor, "B F C h w"]:
        """The best guess of the clean video, made of what `forward` gave to denoise this one."""
        scale = self.scaling(sigma[:, None, None, None, None])
        kept = scale.skip * _shifted(video, condition)
        kept = kept if condition.origin is None else condition.origin + kept
        return kept + scale.out * out.float()

    def read(self, video: Float[Tensor, "B F C h w"], sigma: Float[Tensor, "B"], condition: Condition) -> Features:
        """The features of `denoise` alone; a backbone that can stops behind the last tap."""
        return self.denoise(video, sigma, condition)[1]

    def encode_current(self, given: Condition) -> Condition:
        """What the passes are conditioned on, of a clip of one frame a view; by default what is given."""
        return given

    def arrange(self, views: int, pad: int, side: int) -> None:
        """Tells the backbone, once, how flat frames lie; one that takes them as one row of frames need not know.

        Args:
            views: V, of as many frames each, which stand one view after the other.
            pad: frames before them.
            side: of a frame, in latents.

        Raises:
            UserError: it cannot denoise such frames, or none that lie so.
        """

    def unguided(self, condition: Condition) -> Condition:
        """What guidance leads away from: by default nothing to go by, as dropout shows it in training."""
        return condition.unconditional()

    def reusing(self, every: int) -> AbstractContextManager[None]:
        """Within, the deep blocks run at the first of every so many passes of `denoise`; the others take their output.

        Neighbouring steps of a sampler differ little there (Ma et al. 2024, DeepCache, arXiv 2312.00858).

        Args:
            every: passes; 1 runs everything at each.

        Raises:
            UserError: this backbone cannot.
        """
        if every > 1:
            raise UserError("--reuse is for a video model that can hold its deep blocks, as backbone 'unet' can")
        return nullcontext()

    def embed(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """The embedding of a noise level that the head is given."""
        return self.embed_noise(self.scaling(sigma).noise)

    @abstractmethod
    def forward(
        self, video: Float[Tensor, "B F C h w"], condition: Condition, noise: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B F C h w"], Features]:
        """One pass of the network.

        Args:
            video: noisy latents, scaled by c_in.
            condition: what the video is denoised given, in the network's precision.
            noise: c_noise of each sample, as `scaling` has it: ln(sigma) / 4, or a flow model's time.

        Returns:
            The network's raw output, and its taps.
        """

    @abstractmethod
    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """The network's embedding of c_noise."""

    @abstractmethod
    def enable_gradient_checkpointing(self) -> None:
        """From now on, recomputes activations in the backward pass: slower, far less memory."""


def _shifted(video: Float[Tensor, "B F C h w"], condition: Condition) -> Float[Tensor, "B F C h w"]:
    return video if condition.origin is None else video - condition.origin


def _joined(parts: Sequence[Any]) -> Any:
    """Tensors, or values that hold them, along the batch; None of nothing."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    names = [field.name for field in fields(first)]
    return type(first)(**{name: _joined([getattr(part, name) for part in parts]) for name in names})
