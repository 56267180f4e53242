"""A dot on a plane that must reach the disc of the colour that the instruction names.

NumPy only, and fast: a whole evaluation takes seconds. It is for tests and for first steps, not for science.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

from videopolicy.envs.base import Env, State, check
from videopolicy.types import Action, Image, Observation

Point = Float32[np.ndarray, "2"]

COLOURS = {"red": (220, 50, 40), "blue": (40, 90, 220)}
INSTRUCTIONS = {f"reach-{colour}": f"reach the {colour} disc" for colour in COLOURS}
TASKS = tuple(INSTRUCTIONS)
# "top" shows the whole plane, "close" a quarter of it around the dot; the value is half the width that is seen.
HALF_WIDTHS = {"top": 1.2, "close": 0.6}
VIEWS = tuple(HALF_WIDTHS)
GROUND, DOT = (235, 230, 220), (30, 30, 30)
TARGET_RADIUS, DOT_RADIUS = 0.18, 0.1
# How far the dot moves in one control step at full speed; the plane is 2 wide.
STRIDE = 0.08
HORIZON = 50


def make(task: str, *, views: Sequence[str] = VIEWS, size: int = 64) -> "PointMass":
    """Opens a task.

    Raises:
        UserError: unknown task or view, or a size that cannot be drawn.
    """
    check(task, TASKS, views, VIEWS, size)
    return PointMass(task, tuple(views), size)


class PointMass(Env):
    """One task: reach the disc of one colour, with a disc of the other colour in sight.

    Action (2): the dot's velocity in x (right) and y (up), each in -1 to 1.
    State (2): the dot's position, each in -1 to 1.
    The seed decides where the dot and the discs are: never closer than 0.5 to one another.
    """

    fps = 20.0
    horizon = HORIZON
    action_layout = "other:2"
    state_layout = "other:2"

    def __init__(self, task: str, views: tuple[str, ...], size: int) -> None:
        self.task, self.instruction, self.views, self.size = task, INSTRUCTIONS[task], views, size
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._dot: Point = np.zeros(2, np.float32)
        self._targets: dict[str, Point] = {}
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Starts an episode with the dot and the discs at random places."""
        gymnasium.Env.reset(self, seed=seed)
        self._dot, *targets = _apart(self.np_random)
        self._targets = dict(zip(COLOURS, targets, strict=True))
        self._steps = 0
        return self._dot.copy(), {"success": self._reached()}

    def step(self, action: Action) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Moves the dot; the reward is minus the distance to the right disc."""
        velocity = np.clip(np.asarray(action, np.float32), -1, 1)
        self._dot = np.clip(self._dot + np.float32(STRIDE) * velocity, -1, 1)
        self._steps += 1
        reward = -float(np.linalg.norm(self._goal() - self._dot))
        return self._dot.copy(), reward, False, self._steps >= self.horizon, {"success": self._reached()}

    def observe(self) -> Observation:
        """Draws every view."""
        images = {view: draw(view, self.size, self._dot, self._targets) for view in self.views}
        return Observation(images, self.instruction, self._dot.copy())

    def expert(self) -> Callable[[], Action]:
        """Heads straight for the right disc."""
        return lambda: np.clip((self._goal() - self._dot) / STRIDE, -1, 1).astype(np.float32)

    def _goal(self) -> Point:
        return self._targets[self.task.removeprefix("reach-")]

    def _reached(self) -> bool:
        return bool(np.linalg.norm(self._goal() - self._dot) < TARGET_RADIUS)


def draw(view: str, size: int, dot: Point, targets: dict[str, Point]) -> Image:
    """One image of the plane, (size, size, 3): y up, edges softened over one pixel."""
    half = HALF_WIDTHS[view]
    centre = dot if view == "close" else np.zeros(2, np.float32)
    ticks = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = centre[0] + half * ticks, centre[1] - half * ticks
    image = np.full((size, size, 3), GROUND, np.float64)
    discs = [(targets[colour], TARGET_RADIUS, rgb) for colour, rgb in COLOURS.items()] + [(dot, DOT_RADIUS, DOT)]
    for place, radius, rgb in discs:
        distance = np.hypot(x[None, :] - place[0], y[:, None] - place[1])
        cover = np.clip((radius - distance) * size / (2 * half) + 0.5, 0, 1)[..., None]
        image = image * (1 - cover) + np.array(rgb) * cover
    return image.round().astype(np.uint8)


def _apart(generator: np.random.Generator) -> np.ndarray:
    """Three places at least 0.5 from one another and 0.1 from the border, (3, 2)."""
    while True:
        places = generator.uniform(-0.9, 0.9, (3, 2)).astype(np.float32)
        gaps = np.linalg.norm(places - np.roll(places, 1, axis=0), axis=1)
        if gaps.min() >= 0.5:
            return places
