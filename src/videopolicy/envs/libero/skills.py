"""What a LIBERO expert can do: carry an object, pull a drawer open, turn a knob."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from videopolicy.envs.libero.hand import (
    CLOSE,
    CLOSED,
    CLOSING,
    MOST_STEPS,
    NEAR,
    OPEN,
    OPENING,
    Hand,
    Point,
    downward,
    pointing,
)
from videopolicy.envs.libero.scene import Corners, Scene, SceneJoint, heading, width
from videopolicy.types import Action

UP = np.array([0.0, 0.0, 1.0])
# Between the open fingers, with some room; and how far from a rim the hand is, when a finger is on either side of it.
OPENING_WIDTH, RIM = 0.075, 0.02
# The hand's height while it carries, above whatever is highest on its way; and how far from a handle it begins.
CLEARANCE, BEFORE = 0.06, 0.09
# How much an object may stand out of a region before it is worth turning.
OVERHANG = 0.01
# What is put into the same region stands this far apart.
APART = 0.09
# A hand that pulls is told to be this far ahead, and goes on for some steps when it is done.
AHEAD, MORE_STEPS = 0.05, 4


class Skill(ABC):
    """Makes one predicate of the goal true, in one of several ways; which one works is for others to try.

    Attributes:
        scene: what is where.
        hand: what moves.
        goal: the predicate.
    """

    def __init__(self, env: Any, goal: list[str]) -> None:
        self.scene, self.hand, self.goal = Scene(env), Hand(env), goal

    @abstractmethod
    def ways(self) -> Sequence[Any]:
        """What may be tried from here, the likeliest first."""

    @abstractmethod
    def play(self, way: Any) -> Iterator[Action]:
        """The actions of one way; ends early when it has failed."""

    def done(self) -> bool:
        """Whether the predicate holds."""
        return self.scene.satisfied(self.goal)


@dataclass(frozen=True)
class Grasp:
    """How an object is grasped.

    Attributes:
        yaw: turn of the hand about the vertical, from the object's heading, in radians.
        aside: from the middle of the object, along the fingers' line, across it (metres).
        depth: how far below its top.
    """

    yaw: float
    aside: tuple[float, float]
    depth: float


# The last four: beside the thickest part of a rim, where a drawer may leave room for the hand.
ASIDES = (
    *((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03), (0.05, 0.0), (-0.05, 0.0)),
    *((0.03, 0.02), (-0.03, 0.02), (0.03, -0.02), (-0.03, -0.02)),
)
GRASPS = tuple(
    Grasp(yaw, aside, depth)
    for depth, aside, yaw in product(
        (0.035, 0.02),
        ASIDES,
        (0.0, np.pi / 2, np.pi / 4, -np.pi / 4),
    )
)


class Carry(Skill):
    """In and On: over the object, down, grasp, up, over the target, down, release, up.

    Args:
        aside: where to put it down, from the middle of the target along the x axis (metres).
    """

    def __init__(self, env: Any, goal: list[str], aside: float = 0.0) -> None:
        super().__init__(env, goal)
        _, self.name, self.target = goal
        self._aside = aside

    def ways(self) -> list[Grasp]:
        """All grasps, first those at which the hand can close around the object, or around a rim of it."""
        corners = self.scene.corners(self.name)
        straight = heading(corners)

        def unlikely(grasp: Grasp) -> bool:
            wide = width(corners, straight + grasp.yaw)
            if wide <= OPENING_WIDTH:
                return grasp.aside[0] != 0
            return abs(abs(grasp.aside[0]) - (wide / 2 - RIM)) > RIM / 2

        return sorted(GRASPS, key=unlikely)

    def play(self, way: Grasp) -> Iterator[Action]:
        """See `Skill.play`."""
        corners = self.scene.corners(self.name)
        low, high = corners.min(0), corners.max(0)
        yaw = heading(corners) + way.yaw
        held = downward(yaw)
        grip = (low + high) / 2 + Rotation.from_euler("z", yaw).apply([*way.aside, 0.0])
        grip[2] = max(high[2] - way.depth, low[2] + 0.01)
        over = max(high[2] + CLEARANCE, self.hand.place()[2])
        yield from self.hand.go(np.array([*grip[:2], over]), held, OPEN, NEAR)
        yield from self.hand.go(grip, held, OPEN, CLOSE)
        yield from self.hand.hold(held, CLOSED, CLOSING)
        place = self._place()
        carried = max(high[2], place[2]) + CLEARANCE + (grip[2] - low[2])
        yield from self.hand.go(np.array([*self.hand.place()[:2], carried]), held, CLOSED, NEAR)
        if self.scene.box(self.name)[0][2] < low[2] + CLEARANCE / 2:
            return
        turned = downward(yaw + self._turn())
        yield from self.hand.go(np.array([*place[:2], carried]), turned, CLOSED, NEAR)
        # The object hangs in the hand as it was grasped, not as its middle was meant to.
        low, high = self.scene.box(self.name)
        hanging = self.hand.place() - np.array([*(low + high)[:2] / 2, low[2]])
        above = np.array([*(place + hanging)[:2], carried])
        yield from self.hand.go(above, turned, CLOSED, CLOSE)
        lowered = min(place[2] + 0.01 + hanging[2], carried)
        yield from self.hand.go(np.array([*above[:2], lowered]), turned, CLOSED, CLOSE)
        yield from self.hand.hold(turned, OPEN, OPENING)
        yield from self.hand.rise(turned, carried)

    def _place(self) -> Point:
        """Where the object's underside shall be: the middle of the target, and the height of what is there."""
        if not self.scene.is_region(self.target):
            low, high = self.scene.box(self.target)
            return np.array([*(low + high)[:2] / 2 + [self._aside, 0], high[2]])
        place, half = self.scene.region(self.target)
        parent = self.scene.parent(self.target)
        if parent in self.scene.env.objects_dict:
            # From above the rim: what it contains falls in.
            place[2] = self.scene.box(parent)[1][2]
            return place
        if self.scene.has_joint(self.target):
            place = self._outside(place, half, self.scene.joint(self.target), parent)
        place += [self._aside, 0, 0]
        place[2] = self.scene.surface(place)
        return place

    def _outside(self, place: Point, half: Point, joint: SceneJoint, parent: str) -> Point:
        """The middle of that part of a drawer that nothing of the cabinet is above."""
        out = joint.axis
        end, begin = out @ place + np.abs(out) @ half, (self.scene.others(parent, joint) @ out).max()
        return place + out * ((max(begin, out @ place - np.abs(out) @ half) + end) / 2 - out @ place)

    def _turn(self) -> float:
        """How far to turn the object so that it fits the region: not at all, if it fits as it is."""
        if not self.scene.is_region(self.target):
            return 0.0
        half = self.scene.region(self.target)[1]
        corners = self.scene.corners(self.name)
        straight = -heading(corners)

        def overhang(turn: float) -> float:
            over = [width(corners, side - turn) - 2 * half[axis] for axis, side in enumerate((0.0, np.pi / 2))]
            return max(0.0, *over)

        ways = sorted((straight, straight + np.pi / 2), key=abs)
        best = min(ways, key=overhang)
        return best if overhang(best) < overhang(0.0) - OVERHANG else 0.0


class Pull(Skill):
    """Open of a drawer: grasp the handle, and draw it out."""

    def ways(self) -> Sequence[float]:
        """How far from the vertical the hand is, in radians: above another drawer's handle there is no room for it."""
        return tuple(np.radians([90, 75, 60, 45, 0]))

    def play(self, way: float) -> Iterator[Action]:
        """See `Skill.play`."""
        joint = self.scene.joint(self.goal[1])
        handle = farthest(self.scene.parts(joint.body), joint.axis).mean(0)
        approach = -np.sin(way) * joint.axis - np.cos(way) * UP
        held = pointing(approach, np.cross(np.cross(joint.axis, UP), approach))
        start = handle - BEFORE * approach
        yield from self.hand.go(start + CLEARANCE * joint.axis, held, OPEN, NEAR)
        yield from self.hand.go(start, held, OPEN, NEAR)
        yield from self.hand.go(handle, held, OPEN, CLOSE)
        yield from self.hand.hold(held, CLOSED, CLOSING)
        place = self.hand.place()
        for _ in follow(self.done, MOST_STEPS):
            gone = joint.axis @ (self.hand.place() - place)
            yield self.hand.toward(place + (gone + AHEAD) * joint.axis, held, CLOSED)
        yield from self.hand.hold(held, OPEN, OPENING)
        yield from self.hand.go(self.hand.place() - BEFORE * approach, held, OPEN, NEAR)
        yield from self.hand.go_home()


class Turn(Skill):
    """Turnon: grasp the knob from above, and turn it."""

    def ways(self) -> Sequence[float]:
        """How far below the knob's top to grasp it (metres)."""
        return (0.02, 0.015, 0.025)

    def play(self, way: float) -> Iterator[Action]:
        """See `Skill.play`."""
        joint = self.scene.joint(self.goal[1])
        knob = farthest(self.scene.parts(joint.body), joint.axis)
        straight = heading(knob)
        yaw = min((straight, straight + np.pi / 2), key=lambda yaw: width(knob, yaw))
        grip = np.array([*joint.anchor[:2], knob[:, 2].max() - way])
        yield from self.hand.go(grip + CLEARANCE * UP, downward(yaw), OPEN, NEAR)
        yield from self.hand.go(grip, downward(yaw), OPEN, CLOSE)
        yield from self.hand.hold(downward(yaw), CLOSED, CLOSING)
        turn = 0.0
        for _ in follow(self.done, MOST_STEPS // 2):
            turn += 0.1
            yield self.hand.toward(grip, downward(yaw + turn), CLOSED)
        yield from self.hand.hold(self.hand.attitude(), OPEN, OPENING)
        yield from self.hand.rise(self.hand.attitude(), grip[2] + CLEARANCE)
        yield from self.hand.go_home()


def farthest(parts: list[Corners], direction: Point) -> Corners:
    """The part that reaches farthest in a direction: the handle of a drawer, the ridge of a knob."""
    return max(parts, key=lambda part: float((part @ direction).max()))


def follow(done: Any, steps: int) -> Iterator[int]:
    """Counts until some steps after it is done, at most to `steps`."""
    left = MORE_STEPS
    for step in range(steps):
        left -= done()
        if left < 0:
            return
        yield step
