"""A dot that must leave a corridor by the end that the instruction names; the images are those of `pointmass`."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from videopolicy.envs import pointmass
from videopolicy.envs.base import Env, State, check
from videopolicy.types import Action, Observation

# Where each task's end is, in x.
ENDS = {"leave-left": -0.9, "leave-right": 0.9}
TASKS = tuple(ENDS)
VIEWS = ("top", "close")
EXAMPLE = "leave-right"
WIDTH = 0.2


def make(task: str, *, views: Sequence[str] = VIEWS, size: int = 64) -> "Corridor":
    check(task, TASKS, views, VIEWS, size)
    return Corridor(task, tuple(views), size)


class Corridor(Env):
    fps = 20.0
    horizon = 40
    action_layout = "other:2"
    state_layout = "other:2"

    def __init__(self, task: str, views: tuple[str, ...], size: int) -> None:
        self.task, self.views, self.size = task, views, size
        self.instruction = f"leave the corridor {task.removeprefix('leave-')}"
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._dot = np.zeros(2, np.float32)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        self._dot = self.np_random.uniform((-0.3, -WIDTH), (0.3, WIDTH)).astype(np.float32)
        self._steps = 0
        return self._dot.copy(), {"success": self._left()}

    def step(self, action: Action) -> tuple[State, float, bool, bool, dict[str, Any]]:
        velocity = np.clip(np.asarray(action, np.float32), -1, 1)
        self._dot = np.clip(self._dot + np.float32(0.08) * velocity, (-1, -WIDTH), (1, WIDTH)).astype(np.float32)
        self._steps += 1
        return self._dot.copy(), float(self._left()), False, self._steps >= self.horizon, {"success": self._left()}

    def observe(self) -> Observation:
        ends = {"red": np.float32((ENDS["leave-left"], 0)), "blue": np.float32((ENDS["leave-right"], 0))}
        images = {view: pointmass.draw(view, self.size, self._dot, ends) for view in self.views}
        return Observation(images, self.instruction, self._dot.copy())

    def expert(self) -> Callable[[], Action]:
        return lambda: np.float32((np.sign(ENDS[self.task]), 0))

    def _left(self) -> bool:
        return bool(self._dot[0] * np.sign(ENDS[self.task]) >= abs(ENDS[self.task]))
