"""What a LIBERO expert reads from the simulator: where bodies, joints and goal regions are."""

from dataclasses import dataclass
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from videopolicy.envs.libero.hand import Point

# From where, above a region, to look down for what one would rest on there.
ABOVE = 0.15
# robosuite keeps what collides in MuJoCo's first group of geoms.
COLLIDING = np.array([1, 0, 0, 0, 0, 0], np.uint8)

Corners = Float[np.ndarray, "n 3"]


@dataclass(frozen=True)
class SceneJoint:
    """A joint of furniture, now.

    Attributes:
        body: what moves, MuJoCo's number.
        slides: whether it slides; otherwise it turns.
        anchor: a point of its axis.
        axis: unit vector, along which or about which it opens (is turned on).
    """

    body: int
    slides: bool
    anchor: Point
    axis: Point

    def motion(self, place: Point) -> Point:
        """The direction in which a point of the body goes when it opens, a unit vector."""
        if self.slides:
            return self.axis
        motion = np.cross(self.axis, place - self.anchor)
        return motion / np.linalg.norm(motion)


class Scene:
    """Reads an environment of LIBERO's.

    Args:
        env: robosuite's environment.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        # Not before an env is open, which has chosen how to render.
        self._mujoco: Any = import_module("mujoco")

    @property
    def _model(self) -> Any:
        return self.env.sim.model._model

    @property
    def _data(self) -> Any:
        return self.env.sim.data._data

    def satisfied(self, goal: list[str]) -> bool:
        """Whether a predicate of the task's goal holds now."""
        return bool(self.env._eval_predicate(goal))

    def joint(self, name: str) -> SceneJoint:
        """The one joint of a region (a drawer) or of furniture (a stove, a microwave)."""
        owner = self.env.object_sites_dict[name] if name in self.env.object_sites_dict else self.env.get_object(name)
        joint = self._model.joint(owner.joints[0])
        moving = self._data.joint(owner.joints[0])
        # At rest it is shut, or off, so it opens toward the end of its range that is far from there.
        opening = 1.0 if abs(joint.range[1]) > abs(joint.range[0]) else -1.0
        slides = joint.type[0] == self._mujoco.mjtJoint.mjJNT_SLIDE
        return SceneJoint(int(joint.bodyid[0]), slides, np.array(moving.xanchor), opening * np.array(moving.xaxis))

    def body(self, name: str) -> int:
        """The number of the body that an object or furniture is made of."""
        return int(self._model.body(self.env.get_object(name).root_body).id)

    def parts(self, root: int) -> list[Corners]:
        """The corners (8, 3) of each colliding part of a body, and of those that hang on it, in simulator axes."""
        model = self._model
        colliding = (model.geom_contype | model.geom_conaffinity).astype(bool)
        geoms = [g for g in range(model.ngeom) if colliding[g] and self._hangs_on(model.geom_bodyid[g], root)]
        return [self._corners(g) for g in geoms]

    def corners(self, name: str) -> Corners:
        """All corners of an object's parts."""
        return np.concatenate(self.parts(self.body(name)))

    def box(self, name: str) -> tuple[Point, Point]:
        """The lowest and the highest corner of an object, in simulator axes."""
        corners = self.corners(name)
        return corners.min(0), corners.max(0)

    def is_region(self, name: str) -> bool:
        """Whether this is a region: of a table, of furniture or of an object."""
        return name in self.env.object_sites_dict

    def region(self, name: str) -> tuple[Point, Point]:
        """The middle of a region, and half its extents, in simulator axes."""
        site = self._data.site(name)
        return np.array(site.xpos), np.abs(site.xmat.reshape(3, 3) @ self.env.object_sites_dict[name].size)

    def parent(self, name: str) -> str:
        """What a region belongs to."""
        return self.env.object_sites_dict[name].parent_name

    def has_joint(self, name: str) -> bool:
        """Whether a region can be shut."""
        return bool(self.is_region(name) and self.env.object_sites_dict[name].joints)

    def surface(self, place: Point) -> float:
        """The height of what is under a place, or of the place itself if nothing is higher."""
        top = place + np.array([0, 0, ABOVE])
        distance = self._mujoco.mj_ray(
            self._model, self._data, top, np.array([0.0, 0.0, -1.0]), COLLIDING, 1, -1, np.zeros(1, np.int32)
        )
        return float(place[2]) if distance < 0 else max(float(place[2]), float(top[2] - distance))

    def others(self, name: str, joint: SceneJoint) -> Corners:
        """The corners of furniture without what moves with a joint of its."""
        return np.concatenate([part for part in self.parts(self.body(name)) if not self._moves(part, joint)])

    def _moves(self, part: Corners, joint: SceneJoint) -> bool:
        return any(np.array_equal(part, moving) for moving in self.parts(joint.body))

    def _hangs_on(self, body: int, root: int) -> bool:
        while body not in (0, root):
            body = self._model.body_parentid[body]
        return body == root

    def _corners(self, geom: int) -> Corners:
        middle, half = self._model.geom_aabb[geom, :3], self._model.geom_aabb[geom, 3:]
        local = middle + half * np.array(list(product((-1, 1), repeat=3)))
        return local @ self._data.geom_xmat[geom].reshape(3, 3).T + self._data.geom_xpos[geom]


def along(yaw: float) -> Point:
    """The horizontal unit vector at an angle to the x axis."""
    return Rotation.from_euler("z", yaw).apply([1.0, 0.0, 0.0])


def width(corners: Corners, yaw: float) -> float:
    """How wide something is in a horizontal direction (metres)."""
    return float(np.ptp(corners @ along(yaw)))


def heading(corners: Corners) -> float:
    """The yaw at which the rectangle around something, seen from above, is smallest; in [0, pi / 2)."""
    yaws = np.linspace(0, np.pi / 2, 30, endpoint=False)
    return float(min(yaws, key=lambda yaw: round(width(corners, yaw) * width(corners, yaw + np.pi / 2), 4)))
