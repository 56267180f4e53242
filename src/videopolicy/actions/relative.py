"""Actions seen from where the gripper was when the chunk began.

So a chunk looks the same wherever the robot's base stands, and a camera on the wrist is enough to tell what to do. The
paper's real robot learns relative gripper poses, beside the gripper's opening and the grip's force as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64

from videopolicy.actions.layout import POSITION, ROTATIONS, Layout, Part
from videopolicy.actions.rotations import matrices, written
from videopolicy.errors import UserError

# Continuous, so a network learns it more easily than the others (Zhou et al. 2019).
LEARNT = "rotation_6d"
# After the point, of metres and of a matrix. Poses in float32 hold no more, and a normaliser would
# stretch what is left of a direction without motion to full range.
DIGITS = 6
# The position of a gripper, and its rotation.
Pose = tuple[Part, Part]


@dataclass(frozen=True)
class Relative:
    """Absolute poses <-> poses relative to the state at the first step of the chunk, T_now^-1 T_k.

    Pose i of the action (its i-th position with its i-th rotation) is seen from pose i of the state. Rotations become
    6-D; everything but poses stays as it is, to the bit. Results have the actions' precision, relative poses 6 digits
    after the point.

    Attributes:
        layout: of the actions.
        state_layout: of the states; their poses are in the same frame as the actions'.

    Raises:
        UserError: the action or the state has no absolute poses, or not equally many.
    """

    layout: Layout
    state_layout: Layout

    def __post_init__(self) -> None:
        _check_absolute(self.layout, "action")
        _check_absolute(self.state_layout, "state")
        actions, states = len(_poses(self.layout)), len(_poses(self.state_layout))
        if actions != states:
            raise UserError(
                f"relative actions need a pose of the state for each of the action's, but the action "
                f"{str(self.layout)!r} has {actions}, the state {str(self.state_layout)!r} {states}"
            )

    @cached_property
    def relative(self) -> Layout:
        """What the relative actions mean."""
        words = {POSITION: f"relative_{POSITION}", **dict.fromkeys(ROTATIONS, f"relative_{LEARNT}")}
        return Layout.parse(" ".join(words.get(part.kind, str(part)) for part in self.layout.parts))

    @property
    def origin(self) -> Float64[np.ndarray, "S"]:
        """A state at the origin of its frame; absolute actions there are relative ones in the words of `layout`."""
        state = np.zeros(self.state_layout.width)
        for _, turn in _poses(self.state_layout):
            state[turn.slice] = written(np.eye(3), turn.kind)
        return state

    def apply(
        self, actions: Float[np.ndarray, "*n A D"], states: Float[np.ndarray, "*n S"]
    ) -> Float[np.ndarray, "*n A E"]:
        """Absolute -> relative.

        Args:
            actions: chunks in `layout`.
            states: in `state_layout`, each at the first step of its chunk.

        Raises:
            UserError: another width, or a pose that is none.
        """
        result = self._carried(actions, self.layout, self.relative)
        for absolute, seen, (place, turn) in self._arms(states):
            back = turn.swapaxes(-1, -2)
            result[..., seen[0].slice] = _turned(back, actions[..., absolute[0].slice] - place).round(DIGITS)
            turns = back @ matrices(actions[..., absolute[1].slice], absolute[1].kind)
            result[..., seen[1].slice] = written(turns, LEARNT).round(DIGITS)
        return result

    def invert(
        self, relative: Float[np.ndarray, "*n A E"], states: Float[np.ndarray, "*n S"]
    ) -> Float[np.ndarray, "*n A D"]:
        """Relative -> absolute, the inverse of `apply`; a rotation may come back as another of its spellings.

        Args:
            relative: chunks in the layout `relative`; rotations need not be quite orthonormal.
            states: in `state_layout`, each at the first step of its chunk.

        Raises:
            UserError: another width, or a pose that is none.
        """
        result = self._carried(relative, self.relative, self.layout)
        for absolute, seen, (place, turn) in self._arms(states):
            result[..., absolute[0].slice] = place + _turned(turn, relative[..., seen[0].slice])
            turns = turn @ matrices(relative[..., seen[1].slice], LEARNT)
            result[..., absolute[1].slice] = written(turns, absolute[1].kind)
        return result

    def _arms(
        self, states: Float[np.ndarray, "*n S"]
    ) -> Iterator[tuple[Pose, Pose, tuple[Float64[np.ndarray, "*n 1 3"], Float64[np.ndarray, "*n 1 3 3"]]]]:
        """Of each arm, where its absolute and its relative pose stand, and its pose now."""
        self.state_layout.check(states, "states")
        layouts = (self.layout, self.relative, self.state_layout)
        for absolute, seen, (place, turn) in zip(*map(_poses, layouts), strict=True):
            now = states[..., None, place.slice].astype(np.float64)
            yield absolute, seen, (now, matrices(states[..., None, turn.slice], turn.kind))

    @staticmethod
    def _carried(values: Float[np.ndarray, "*n A D"], source: Layout, target: Layout) -> Float[np.ndarray, "*n A E"]:
        """The result with everything but the poses in place."""
        source.check(values, "actions")
        result = np.zeros((*values.shape[:-1], target.width), values.dtype)
        for one, other in zip(source.parts, target.parts, strict=True):
            if one.kind != POSITION and one.kind not in ROTATIONS:
                result[..., other.slice] = values[..., one.slice]
        return result


def _turned(
    turns: Float64[np.ndarray, "*n 1 3 3"], places: Float[np.ndarray, "*n A 3"]
) -> Float64[np.ndarray, "*n A 3"]:
    return np.squeeze(turns @ places[..., None].astype(np.float64), -1)


def _poses(layout: Layout) -> list[Pose]:
    places = [part for part in layout.parts if part.kind == POSITION]
    return list(zip(places, [part for part in layout.parts if part.kind in ROTATIONS], strict=True))


def _check_absolute(layout: Layout, what: str) -> None:
    poses = [part for part in layout.parts if part.kind == POSITION or part.kind in ROTATIONS]
    places = sum(part.kind == POSITION for part in poses)
    if not places or len(poses) != 2 * places or any(part.reference for part in poses):
        raise UserError(
            f"relative actions need absolute poses, each a position and a rotation ('position quaternion'), in the "
            f"action and in the state; the {what} is {str(layout)!r}"
        )
