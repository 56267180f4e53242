"""Windows: which frames and actions of an episode belong to the clip that starts at a step."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from videopolicy.errors import UserError

Steps = int | Int[np.ndarray, "*b"]


@dataclass(frozen=True)
class Window:
    """The current frame, T future frames at a stride, and the A actions from the current step on.

    Attributes:
        frames: T, future frames a view.
        stride: control steps between frames.
        actions: A, actions of a chunk.
        first: control steps from the current frame to the first future one, a stride if None; with 0 the first of the
            future frames is the current one again.
    """

    frames: int
    stride: int
    actions: int
    first: int | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "actions"):
            if getattr(self, name) < 1:
                raise UserError(f"a window needs {name} of at least 1, not {getattr(self, name)}")
        if self.first is not None and self.first < 0:
            raise UserError(f"the first frame of a window is never in the past; first is {self.first}")

    @property
    def offsets(self) -> tuple[int, ...]:
        """Control steps from the current frame to each future frame, length T."""
        first = self.stride if self.first is None else self.first
        return tuple(first + self.stride * k for k in range(self.frames))

    @property
    def span(self) -> int:
        """Control steps that an episode needs to hold one whole window."""
        return max(self.reach + 1, self.actions)

    @property
    def reach(self) -> int:
        """Control steps from the current frame to the last future one."""
        return self.offsets[-1]

    def latent_frames(self, temporal: int) -> int:
        """t, the latents along time that the T future frames become; the current image is one more, on its own.

        Args:
            temporal: frames per latent; see `videopolicy.latents.base.Latents`.

        Raises:
            UserError: T is no multiple of it.
        """
        return latent_frames(self.frames, temporal)

    def reaching(self, horizon: int) -> "Window":
        """The same stride and the same actions, with future frames for so many control steps.

        Args:
            horizon: a multiple of the stride; with 0 the only frame is the current one again.

        Raises:
            UserError: it is no multiple of the stride.
        """
        if horizon == 0:
            return replace(self, frames=1, first=0)
        if horizon < 0 or horizon % self.stride:
            below = max(horizon, 0) // self.stride * self.stride
            raise UserError(
                f"frames {self.stride} control steps apart cannot reach {horizon} ahead; "
                f"{below} or {below + self.stride} would do"
            )
        return replace(self, frames=horizon // self.stride)

    def frame_indices(self, start: Steps, length: Steps) -> Int[np.ndarray, "*b 1+T"]:
        """Steps of the current and the future frames; past the end of the episode, its last frame again.

        Args:
            start: the current step, 0 <= start < length; or an array of them.
            length: control steps of the episode; or one for each start.
        """
        return _clipped(start, np.array((0, *self.offsets)), length)

    def action_indices(self, start: Steps, length: Steps) -> Int[np.ndarray, "*b A"]:
        """Steps of the actions of the chunk; past the end of the episode, its last action again.

        Args:
            start: the current step, 0 <= start < length; or an array of them.
            length: control steps of the episode; or one for each start.
        """
        return _clipped(start, np.arange(self.actions), length)

    def check(self, lengths: Iterable[int]) -> None:
        """Makes sure that every episode holds at least one whole window.

        Raises:
            UserError: an episode is shorter; the message names the first such episode.
        """
        for episode, length in enumerate(lengths):
            if length < self.span:
                raise UserError(
                    f"episode {episode} has {length} control steps, but a window spans {self.span} "
                    f"({self.frames} frames at stride {self.stride}, {self.actions} actions); "
                    "leave the episode out or use a shorter window"
                )


def latent_frames(frames: int, temporal: int) -> int:
    """Latents of so many future frames; see `Window.latent_frames`."""
    if frames % temporal:
        below = frames // temporal * temporal
        would_do = f"{below} or {below + temporal}" if below else f"{temporal}"
        raise UserError(f"{frames} future frames do not divide into latents of {temporal} frames; {would_do} would do")
    return frames // temporal


def _clipped(start: Steps, offsets: Int[np.ndarray, "k"], length: Steps) -> Int[np.ndarray, "*b k"]:
    start, length = np.asarray(start)[..., None], np.asarray(length)[..., None]
    if np.any(start < 0) or np.any(start >= length):
        raise IndexError(f"a window starts outside its episode: start {start.ravel()}, length {length.ravel()}")
    return np.minimum(start + offsets, length - 1)
