"""Rotations, poses and other values for the tests, as hypothesis draws them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from videopolicy.actions.layout import ROTATIONS
from videopolicy.actions.rotations import matrices, rewritten

UNITS = st.floats(-1, 1, width=32)
AXES = hnp.arrays(np.float64, 3, elements=UNITS).filter(lambda axis: np.linalg.norm(axis) > 1e-2)
# Half a turn, none, and the smallest steps to both sides of them, beside all others.
ANGLES = st.sampled_from([0, 1e-12, 1e-7, 1e-3, np.pi - 1e-3, np.pi - 1e-7, np.pi]) | st.floats(0, np.pi)
TURNS = st.builds(lambda axis, angle: axis / np.linalg.norm(axis) * angle, AXES, ANGLES)
KINDS = st.sampled_from(sorted(ROTATIONS))


def batches(of, most=4):
    """Arrays (n, ...) of 1 to `most` drawn values."""
    return st.lists(of, min_size=1, max_size=most).map(np.stack)


def apart(values, others, kind):
    """The largest angle between two stacks of rotations, in radians."""
    ratio = matrices(values, kind).reshape(-1, 3, 3).swapaxes(1, 2) @ matrices(others, kind).reshape(-1, 3, 3)
    return Rotation.from_matrix(ratio).magnitude().max()


@st.composite
def values(draw, layout, count):
    """`count` values of a layout, (count, D): rotations and positions as they may be, the rest within -1 to 1."""
    columns = []
    for part in layout.parts:
        if part.kind in ROTATIONS:
            turns = np.stack([draw(TURNS) for _ in range(count)])
            columns.append(rewritten(turns, "axis_angle", part.kind))
        else:
            columns.append(draw(hnp.arrays(np.float64, (count, part.width), elements=UNITS)))
    return np.concatenate(columns, 1)


def agree(layout, first, second, tolerance=1e-6):
    """Whether two stacks of values mean the same: rotations up to their spelling."""
    for part in layout.parts:
        one, other = first[..., part.slice], second[..., part.slice]
        if part.kind in ROTATIONS:
            if apart(one, other, part.kind) > tolerance:
                return False
        elif not np.allclose(one, other, rtol=0, atol=tolerance):
            return False
    return True
