"""A scripted expert for LIBERO's pick-and-place tasks, which knows where everything is.

It carries one object after the other to where the goal wants it: over the object, down, grasp, up, over the target,
down, release, up. Which grasp holds is found by trying: candidates are played in the simulator, which is then put back.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from videopolicy.errors import UserError
from videopolicy.types import Action

if TYPE_CHECKING:
    from videopolicy.worlds.libero import Libero

# What an action of 1 moves: robosuite's OSC_POSE controller, in metres and radians.
MOTION, TURN = 0.05, 0.5
NEAR, CLOSE = 0.02, 0.008
MOST_STEPS = 60
OPEN, CLOSED = -1.0, 1.0
CLOSING, OPENING = 12, 6
# Between the open fingers, with some room; and how far from a rim the hand is, when a finger is on either side of it.
OPENING_WIDTH, RIM = 0.075, 0.02
# The hand's height while it carries, above whatever is highest on its way.
CLEARANCE = 0.06
DOWN = Rotation.from_euler("x", 180, degrees=True)

Point = Float[np.ndarray, "3"]


@dataclass(frozen=True)
class Grasp:
    """How an object is grasped.

    Attributes:
        yaw: turn of the hand about the vertical, in radians.
        aside: from the middle of the object, along the fingers' line, across it (metres).
        depth: how far below its top.
    """

    yaw: float
    aside: tuple[float, float]
    depth: float


GRASPS = tuple(
    Grasp(yaw, aside, depth)
    for depth, aside, yaw in product(
        (0.035, 0.02),
        ((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03), (0.05, 0.0), (-0.05, 0.0)),
        (0.0, np.pi / 2, np.pi / 4, -np.pi / 4),
    )
)


class Expert:
    """Acts in the current episode of a world; call it once before every step.

    Args:
        world: has just been reset.

    Raises:
        UserError: the task is more than carrying objects.
    """

    def __init__(self, world: "Libero") -> None:
        self._world, self._env = world, world._env.env
        self._errands = _errands(self._env.parsed_problem["goal_state"], self._env, world.task)
        self._grasps = self._find_grasps()
        self._script = self._carry_all(self._grasps)

    def __call__(self) -> Action:
        """The next action, (7,); when everything is carried, none but an open hand."""
        action = next(self._script, None)
        return self._toward(self._hand(), 0.0, OPEN) if action is None else action

    def _find_grasps(self) -> list[Grasp]:
        """A grasp for each errand that works when played; the first for those where none does."""
        with _Rewound(self._world):
            found: list[Grasp] = []
            for errand in self._errands:
                found.append(self._find_grasp(errand))
                for action in self._carry(*errand, found[-1]):
                    self._world.step(action)
        return found

    def _find_grasp(self, errand: tuple[str, str]) -> Grasp:
        for grasp in self._likeliest(errand[0]):
            with _Rewound(self._world):
                for action in self._carry(*errand, grasp):
                    self._world.step(action)
                if self._satisfied(*errand):
                    return grasp
        return GRASPS[0]

    def _likeliest(self, name: str) -> list[Grasp]:
        """All grasps, first those at which the hand can close around the object, or around a rim of it."""
        low, high = self._box(name)
        across, along = (high - low)[:2]

        def unlikely(grasp: Grasp) -> bool:
            width = across if grasp.yaw == 0 else along if grasp.yaw == np.pi / 2 else max(across, along)
            if width <= OPENING_WIDTH:
                return grasp.aside[0] != 0
            return abs(abs(grasp.aside[0]) - (width / 2 - RIM)) > RIM / 2

        return sorted(GRASPS, key=unlikely)

    def _satisfied(self, name: str, target: str) -> bool:
        goals = self._env.parsed_problem["goal_state"]
        return all(self._env._eval_predicate(goal) for goal in goals if goal[1:] == [name, target])

    def _carry_all(self, grasps: list[Grasp]) -> Iterator[Action]:
        for errand, grasp in zip(self._errands, grasps, strict=True):
            yield from self._carry(*errand, grasp)

    def _carry(self, name: str, target: str, grasp: Grasp) -> Iterator[Action]:
        low, high = self._box(name)
        turn = np.array([[np.cos(grasp.yaw), -np.sin(grasp.yaw)], [np.sin(grasp.yaw), np.cos(grasp.yaw)]])
        middle = (low + high)[:2] / 2 + turn @ np.array(grasp.aside)
        height = max(high[2] - grasp.depth, low[2] + 0.01)
        over = max(high[2] + CLEARANCE, self._hand()[2])
        yield from self._go(np.array([*middle, over]), grasp.yaw, OPEN, NEAR)
        yield from self._go(np.array([*middle, height]), grasp.yaw, OPEN, CLOSE)
        yield from self._hold(grasp.yaw, CLOSED, CLOSING)
        place, floor = self._target(target)
        carried = max(high[2], floor) + CLEARANCE + (height - low[2])
        yield from self._go(np.array([*self._hand()[:2], carried]), grasp.yaw, CLOSED, NEAR)
        # The object hangs in the hand as it was grasped, not as its middle was meant to.
        low, high = self._box(name)
        hanging = self._hand() - np.array([*(low + high)[:2] / 2, low[2]])
        above = np.array([*(place + hanging[:2]), carried])
        yield from self._go(above, grasp.yaw, CLOSED, CLOSE)
        lowered = min(floor + 0.01 + hanging[2], carried)
        yield from self._go(np.array([*above[:2], lowered]), grasp.yaw, CLOSED, CLOSE)
        yield from self._hold(grasp.yaw, OPEN, OPENING)
        yield from self._go(np.array([*self._hand()[:2], carried]), grasp.yaw, OPEN, NEAR)

    def _go(self, place: Point, yaw: float, gripper: float, near: float) -> Iterator[Action]:
        for _ in range(MOST_STEPS):
            if np.linalg.norm(place - self._hand()) < near and np.linalg.norm(self._turn(yaw)) < 0.1:
                return
            yield self._toward(place, yaw, gripper)

    def _hold(self, yaw: float, gripper: float, steps: int) -> Iterator[Action]:
        place = self._hand()
        for _ in range(steps):
            yield self._toward(place, yaw, gripper)

    def _toward(self, place: Point, yaw: float, gripper: float) -> Action:
        motion, turn = (place - self._hand()) / MOTION, self._turn(yaw) / TURN
        # Shortened, not clipped by dimension, so that the hand goes straight.
        motion = motion / max(1.0, float(np.abs(motion).max()))
        return np.clip([*motion, *turn, gripper], -1, 1).astype(np.float32)

    def _hand(self) -> Point:
        return np.array(self._env.sim.data.site_xpos[self._env.robots[0].eef_site_id])

    def _turn(self, yaw: float) -> Point:
        """The rotation that is left to do, as axis-angle; the fingers are symmetric, so half a turn is none."""
        now = Rotation.from_matrix(self._env.sim.data.site_xmat[self._env.robots[0].eef_site_id].reshape(3, 3))
        ways = [Rotation.from_euler("z", yaw + half) * DOWN * now.inv() for half in (0, np.pi)]
        return min((way.as_rotvec() for way in ways), key=lambda way: float(np.linalg.norm(way)))

    def _box(self, name: str) -> tuple[Point, Point]:
        """The lowest and the highest corner of an object, in the world's axes."""
        model, data = self._env.sim.model._model, self._env.sim.data._data
        root = model.body(self._env.objects_dict[name].root_body).id
        geoms = [g for g in range(model.ngeom) if _inside(model, model.geom_bodyid[g], root) and model.geom_contype[g]]
        corners = []
        for g in geoms:
            middle, half = model.geom_aabb[g, :3], model.geom_aabb[g, 3:]
            local = middle + half * np.array(list(product((-1, 1), repeat=3)))
            corners.append(local @ data.geom_xmat[g].reshape(3, 3).T + data.geom_xpos[g])
        every = np.concatenate(corners)
        return every.min(0), every.max(0)

    def _target(self, name: str) -> tuple[Float[np.ndarray, "2"], float]:
        """Where to put an object down: the middle of the target, and the height of what it shall rest on."""
        env = self._env
        if name in env.objects_dict:
            low, high = self._box(name)
            return (low + high)[:2] / 2, float(high[2])
        site = env.sim.data.site_xpos[env.sim.model.site_name2id(name)]
        parent = env.object_sites_dict[name].parent_name
        if parent in env.objects_dict:
            # From above the rim: what it contains falls in.
            return np.array(site[:2]), float(self._box(parent)[1][2])
        return np.array(site[:2]), float(site[2])


class _Rewound:
    """Puts a world back, after the block, to where it was before."""

    def __init__(self, world: "Libero") -> None:
        self._world, self._env = world, world._env.env

    def __enter__(self) -> None:
        robot = self._env.robots[0]
        self._state = self._env.sim.get_state()
        self._kept = (deepcopy(robot.gripper.current_action), self._env.timestep, self._env.cur_time)
        self._seen = (self._world._obs, self._world._steps)

    def __exit__(self, *_: Any) -> None:
        env, robot = self._env, self._env.robots[0]
        env.sim.set_state(self._state)
        env.sim.forward()
        robot.controller.update(force=True)
        robot.controller.reset_goal()
        robot.gripper.current_action, env.timestep, env.cur_time = self._kept
        self._world._obs, self._world._steps = self._seen


def _errands(goals: list[list[str]], env: Any, task: str) -> list[tuple[str, str]]:
    for kind, name, *_ in goals:
        if kind not in ("in", "on") or name not in env.objects_dict:
            raise UserError(f"no expert for {task}: it can carry objects, but not {kind} {name}")
    return [(name, target) for _, name, target in goals]


def _inside(model: Any, body: int, root: int) -> bool:
    while body not in (0, root):
        body = model.body_parentid[body]
    return body == root
