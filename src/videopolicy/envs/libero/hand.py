"""How a scripted expert moves the hand of a robosuite arm: one action at a time, toward a place and an attitude."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from videopolicy.types import Action

# What an action of 1 moves: robosuite's OSC_POSE controller, in metres and radians.
MOTION, TURN = 0.05, 0.5
NEAR, CLOSE = 0.02, 0.008
MOST_STEPS = 60
OPEN, CLOSED = -1.0, 1.0
CLOSING, OPENING = 12, 6
HALF_TURN = Rotation.from_euler("z", np.pi)

Point = Float[np.ndarray, "3"]


def pointing(approach: Point, fingers: Point) -> Rotation:
    """The attitude in which the hand points along `approach`, its fingers in line with `fingers` (orthogonal)."""
    x, z = fingers / np.linalg.norm(fingers), approach / np.linalg.norm(approach)
    return Rotation.from_matrix(np.stack([x, np.cross(z, x), z], axis=1))


def downward(yaw: float) -> Rotation:
    """The attitude in which the hand points down, its fingers in line with the x axis turned by yaw (radians)."""
    return pointing(np.array([0.0, 0.0, -1.0]), np.array([np.cos(yaw), np.sin(yaw), 0.0]))


class Hand:
    """The hand of the first robot.

    Args:
        env: robosuite's environment, just reset.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._home = self.place(), self.attitude()
        # Here the wrist is in the middle of its range.
        self._neutral = self._home[1] * Rotation.from_euler("z", -np.pi / 4)

    def place(self) -> Point:
        """Where the point between the finger tips is, in the simulator's axes (metres)."""
        return np.array(self._env.sim.data.site_xpos[self._env.robots[0].eef_site_id])

    def attitude(self) -> Rotation:
        """How the hand is turned; it points along its z axis, its fingers close along its x axis."""
        return Rotation.from_matrix(self._env.sim.data.site_xmat[self._env.robots[0].eef_site_id].reshape(3, 3))

    def left(self, attitude: Rotation) -> Point:
        """The rotation that is left to do, as axis-angle.

        The fingers are symmetric, so half a turn is none; of both attitudes the one is meant that is nearer to the
        middle of the wrist's range.
        """
        ways = [attitude * half for half in (Rotation.identity(), HALF_TURN)]
        nearer = min(ways, key=lambda way: float((way * self._neutral.inv()).magnitude()))
        return (nearer * self.attitude().inv()).as_rotvec()

    def toward(self, place: Point, attitude: Rotation, gripper: float) -> Action:
        """The action (7,), within [-1, 1], that brings the hand nearer."""
        motion, turn = (place - self.place()) / MOTION, self.left(attitude) / TURN
        # Shortened, not clipped by dimension, so that the hand goes straight.
        motion = motion / max(1.0, float(np.abs(motion).max()))
        return np.clip([*motion, *turn, gripper], -1, 1).astype(np.float32)

    def go(self, place: Point, attitude: Rotation, gripper: float, near: float) -> Iterator[Action]:
        """Actions until the hand is there, or something keeps it from there."""
        for _ in range(MOST_STEPS):
            if np.linalg.norm(place - self.place()) < near and np.linalg.norm(self.left(attitude)) < 0.1:
                return
            yield self.toward(place, attitude, gripper)

    def hold(self, attitude: Rotation, gripper: float, steps: int) -> Iterator[Action]:
        """Actions that stay here, while the fingers move."""
        place = self.place()
        for _ in range(steps):
            yield self.toward(place, attitude, gripper)

    def rise(self, attitude: Rotation, height: float) -> Iterator[Action]:
        """Straight up, with an open hand."""
        yield from self.go(np.array([*self.place()[:2], height]), attitude, OPEN, NEAR)

    def go_home(self) -> Iterator[Action]:
        """To where the episode began, with an open hand: from there the arm reaches everything."""
        yield from self.go(*self._home, OPEN, 2 * NEAR)
