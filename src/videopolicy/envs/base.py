"""What an env is: a Gymnasium environment that also shows itself, says what to do, and has an expert."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

from videopolicy import registry
from videopolicy.envs.rendering import Renderer
from videopolicy.errors import UserError, unknown
from videopolicy.types import Action, Observation

State = Float32[np.ndarray, "S"]

# Episode i of a recording is reset with seed (recording's first seed + i), which stays below this number; episode i of
# an evaluation with seed EVALUATION_SEED_OFFSET + i. So no policy is judged on a start that it was trained on.
EVALUATION_SEED_OFFSET = 1_000_000


class Env(gymnasium.Env[State, Action]):
    """One task of a simulator. One env a process: simulators' renderers disturb one another.

    An env goes on after success; whoever runs it decides when to stop. It never terminates, and truncates at the
    horizon. The state holds proprioception only. The same seed gives the same states and the same images, to the bit,
    in any process.

    Attributes:
        action_space: Box of shape (D,), float32.
        observation_space: Box of shape (S,), float32.
        action_layout: what an action's dimensions mean (see `videopolicy.actions.layout`), "" if unspecified.
        state_layout: the same of a state.
        task: the env's name of the task.
        instruction: what to do, in words.
        views: the cameras that `observe` renders.
        size: pixels on each side of an image.
        fps: control steps a second.
        horizon: control steps after which `step` says truncated; another may be set before a reset.
    """

    action_space: gymnasium.spaces.Box
    observation_space: gymnasium.spaces.Box
    action_layout: str = ""
    state_layout: str = ""
    task: str
    instruction: str
    views: tuple[str, ...]
    size: int
    fps: float
    horizon: int

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Starts an episode; the seed decides the initial state. Without one, the last generator goes on."""

    @abstractmethod
    def step(self, action: Action) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Executes one action, clipped to the action space.

        Returns:
            State, reward, terminated (always False), truncated (at the horizon), and info, where info["success"] is
            a bool: whether the task is done now.
        """

    @abstractmethod
    def observe(self) -> Observation:
        """Renders every view, upright, (size, size, 3)."""

    @abstractmethod
    def expert(self) -> Callable[[], Action]:
        """A scripted expert for the current episode, which may know what no camera sees.

        Call the result once before every step; it returns the action (D,), clipped to the action space.
        """


def make_env(name: str, task: str, *, views: Sequence[str] = (), size: int = 64) -> Env:
    """Opens one task of an env.

    Args:
        name: of the plug-in ("metaworld").
        task: the env's name of the task.
        views: the cameras; empty for the env's own choice.
        size: pixels on each side of an image.

    Raises:
        UserError: no such env, task or view, or it cannot run here.
    """
    chosen = {"views": tuple(views)} if views else {}
    return registry.build("envs", name, task, size=size, **chosen)


def check(task: str, tasks: Sequence[str], views: Sequence[str], known_views: Sequence[str], size: int) -> None:
    """Raises UserError for an unknown task or view, a view named twice, or a size that cannot be rendered."""
    if task not in tasks:
        raise unknown("task", task, tasks)
    for view in views:
        if view not in known_views:
            raise unknown("view", view, known_views)
    if not views or len(set(views)) < len(views):
        raise UserError(f"views must be one or more different ones, not {' '.join(views) or 'none'}")
    if not 8 <= size <= 1024:
        raise UserError(f"an image is 8 to 1024 pixels on each side, not {size}")


def prepare(name: str, tasks: Sequence[str], views: Sequence[str], size: int) -> Renderer | None:
    """What a process does once before it starts others that open envs: finds bad input early, and what they inherit.

    Args:
        name: the env's name.
        tasks: every task that will be opened.
        views: the cameras; empty for the env's own choice.
        size: pixels on each side of an image.

    Returns:
        What renders its images; None if the env does that itself.

    Raises:
        UserError: unknown env, task or view, or the env cannot run here.
    """
    module = registry.module("envs", name)
    for task in tasks:
        check(task, module.TASKS, views or module.VIEWS, module.VIEWS, size)
    return module.prepare() if hasattr(module, "prepare") else None
