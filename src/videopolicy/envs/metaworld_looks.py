"""Meta-World's tasks in looks that no demonstration shows: `reach-v3@light2` is `reach-v3` in other light.

The looks change what is drawn and nothing else, in steps that are named: the same seed and the same actions give the
same states as in `metaworld`, to the bit. A name without a look is the task as it always looks, for comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin
from typing import Any

import numpy as np

from videopolicy.envs import metaworld
from videopolicy.envs.base import check
from videopolicy.envs.metaworld import DEFAULT_VIEWS, REQUIRES, VIEWS, MetaWorld, prepare

__all__ = ["DEFAULT_VIEWS", "EXAMPLE", "LOOKS", "REQUIRES", "TASKS", "VIEWS", "Look", "make", "prepare"]

RGB = tuple[float, float, float]
PLAIN: RGB = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Look:
    """What differs from Meta-World's own look.

    Attributes:
        lamps: what the colour of all lamps is multiplied with.
        turned: degrees by which the lamps are turned about the vertical.
        table: what the colour of the table is multiplied with.
        metal: whether the table is of the walls' metal, not of wood.
        floor: what the colour of the floor is multiplied with.
        aside: metres by which the cameras in the room are moved to their right; those on the hand stay.
    """

    lamps: RGB = PLAIN
    turned: float = 0.0
    table: RGB = PLAIN
    metal: bool = False
    floor: RGB = PLAIN
    aside: float = 0.0

    def apply(self, model: Any) -> None:
        """Changes a MuJoCo model, of which nothing has been drawn yet."""
        model.light_diffuse *= self.lamps
        model.vis.headlight.diffuse *= self.lamps
        model.vis.headlight.ambient *= self.lamps
        model.light_dir[:] = model.light_dir @ _about_vertical(self.turned).T
        table, floor = model.material("table_wood"), model.material("basic_floor")
        table.rgba[:3] *= self.table
        floor.rgba[:3] *= self.floor
        if self.metal:
            table.texid[:] = model.material("wall_metal").texid
        # The first axis of a camera points to its right; a camera of body 0 is fixed in the room.
        room = model.cam_bodyid == 0
        model.cam_pos[room] += self.aside * model.cam_mat0[room].reshape(-1, 3, 3)[:, :, 0]


# In each of three ways further and further from what demonstrations show.
LOOKS = {
    "light1": Look(lamps=(0.75, 0.75, 0.75)),
    "light2": Look(lamps=(0.5, 0.5, 0.5), turned=90),
    "light3": Look(lamps=(0.6, 0.45, 0.3), turned=180),
    "texture1": Look(table=(0.5, 0.75, 1.0)),
    "texture2": Look(metal=True),
    "texture3": Look(table=(0.5, 0.8, 0.5), metal=True, floor=(0.5, 0.5, 0.8)),
    "camera1": Look(aside=0.05),
    "camera2": Look(aside=0.1),
    "camera3": Look(aside=0.2),
}
TASKS = (*metaworld.TASKS, *(f"{task}@{look}" for task in metaworld.TASKS for look in LOOKS))
EXAMPLE = "button-press-topdown-v3@light2"


def make(task: str, *, views: Sequence[str] = DEFAULT_VIEWS, size: int = 64) -> MetaWorld:
    """Opens a task in a look.

    Args:
        task: the name of one of Meta-World's, or of one and of a look, with an @ between them.
        views: cameras.
        size: pixels on each side of an image.

    Raises:
        UserError: unknown task, look or view, Meta-World is not installed, or nothing here can render.
    """
    check(task, TASKS, views, VIEWS, size)
    name, _, look = task.partition("@")
    env = metaworld.make(name, views=views, size=size)
    env.task = task
    LOOKS.get(look, Look()).apply(env.model)
    return env


def _about_vertical(degrees: float) -> np.ndarray:
    """Turns by so much, counter-clockwise seen from above, (3, 3)."""
    angle = radians(degrees)
    return np.array([[cos(angle), -sin(angle), 0], [sin(angle), cos(angle), 0], [0, 0, 1]])
