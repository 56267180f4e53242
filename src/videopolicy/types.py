"""The values that pass between packages. NumPy only: a robot's or a simulator's process needs no torch.

Letters in the shapes: N control steps of an episode, V views, T future frames a view, A action steps,
n planned actions, D action width, S state width, H and W pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

Image = UInt8[np.ndarray, "H W 3"]
Frames = UInt8[np.ndarray, "N H W 3"]
Action = Float32[np.ndarray, "D"]


@dataclass(frozen=True)
class Observation:
    """What a policy sees at one control step.

    Attributes:
        images: view name -> RGB image, upright, 0 to 255.
        instruction: what to do, in words.
        state: proprioception in the env's own units, or None.
        planned: the actions that earlier plans hold for the steps from now on; None if they hold none.
        committed: how many of these will be executed until the plan arrives, whatever it says.
    """

    images: Mapping[str, Image]
    instruction: str
    state: Float32[np.ndarray, "S"] | None = None
    planned: Float32[np.ndarray, "n D"] | None = None
    committed: int = 0


@dataclass(frozen=True)
class Episode:
    """One recorded episode, in control order; frame n was seen before action n was executed.

    Attributes:
        views: view name -> RGB frames, upright, one per control step.
        instruction: what was to be done, in words.
        fps: control steps a second.
        actions: the action executed at each step, in the env's own units; None for video without actions.
        states: proprioception at each step, or None.
        task: the env's name of the task ("button-press-topdown-v3"), "" if unknown.
        success: whether the task was done; None if unspecified.
        seed: the seed that the env was reset with; None if there was none.
        labelled_by: what read the actions from the video, as `videopolicy label` names it; "" if they were recorded.
        confidence: how far these labels can be relied on, 0 to 1 (see `videopolicy.labelling`); None if recorded.
    """

    views: Mapping[str, Frames]
    instruction: str
    fps: float
    actions: Float32[np.ndarray, "N D"] | None = None
    states: Float32[np.ndarray, "N S"] | None = None
    task: str = ""
    success: bool | None = None
    seed: int | None = None
    labelled_by: str = ""
    confidence: float | None = None

    def __len__(self) -> int:
        """The number of control steps N; 0 if neither frames nor actions were read."""
        return len(next(iter(self.views.values()), () if self.actions is None else self.actions))


@dataclass(frozen=True)
class Plan:
    """What a policy intends from the current step on.

    Attributes:
        actions: the chunk, in the env's own units; row k is executed k control steps from now, (A, D).
        imagined: view name -> the future frames that the video model imagined, (T, H, W, 3); None if not asked,
            or if the policy draws no video.
        offsets: control steps from now to each frame that it imagines, length T; 0 if it draws no video.
    """

    actions: Float32[np.ndarray, "A D"]
    imagined: Mapping[str, Frames] | None = None
    offsets: tuple[int, ...] = ()
