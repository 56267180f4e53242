"""Rotations as axis-angle, quaternion (x, y, z, w) and 6-D, by way of their matrices, in float64."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from videopolicy.actions.layout import ROTATIONS
from videopolicy.errors import UserError, unknown

# What is shorter than this has no direction to speak of.
SHORTEST = 1e-6


def matrices(values: Float[np.ndarray, "*n w"], kind: str) -> Float64[np.ndarray, "*n 3 3"]:
    """Rotation matrices.

    Args:
        values: rotations. Axis-angle in radians, of any length; a quaternion of any length but zero; 6-D as a network
            gives it, made orthonormal by Gram-Schmidt as Zhou et al. 2019, "On the Continuity of Rotation
            Representations in Neural Networks", equation 15, do.
        kind: "axis_angle", "quaternion" or "rotation_6d".

    Raises:
        UserError: another kind or width, a value that is not finite, or one that is no rotation.
    """
    if kind not in ROTATIONS:
        raise unknown("representation of rotations", kind, ROTATIONS)
    if values.shape[-1:] != (ROTATIONS[kind],):
        raise UserError(f"{kind} has {ROTATIONS[kind]} dimensions, but the values are of shape {values.shape}")
    if not np.isfinite(values).all():
        raise UserError(f"{kind}: a value is not finite; every rotation must be made of numbers")
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    if kind == "rotation_6d":
        turned = _orthonormal(flat)
    elif kind == "quaternion":
        turned = _scipy().from_quat(_directions(flat, "a quaternion")).as_matrix()
    else:
        turned = _scipy().from_rotvec(flat).as_matrix()
    return turned.reshape(*values.shape[:-1], 3, 3)


def written(turned: Float64[np.ndarray, "*n 3 3"], kind: str) -> Float64[np.ndarray, "*n w"]:
    """Rotation matrices in this representation: axis-angle up to pi long, quaternions with w >= 0.

    Args:
        turned: orthonormal, of determinant 1.
        kind: "axis_angle", "quaternion" or "rotation_6d".

    Raises:
        UserError: another kind.
    """
    if kind not in ROTATIONS:
        raise unknown("representation of rotations", kind, ROTATIONS)
    flat = turned.reshape(-1, 3, 3)
    if kind == "rotation_6d":
        values = flat[:, :, :2].swapaxes(1, 2).reshape(-1, 6)
    elif kind == "quaternion":
        values = _scipy().from_matrix(flat).as_quat(canonical=True)
    else:
        values = _scipy().from_matrix(flat).as_rotvec()
    return values.reshape(*turned.shape[:-2], ROTATIONS[kind])


def rewritten(values: Float[np.ndarray, "*n w"], source: str, target: str) -> Float64[np.ndarray, "*n v"]:
    """The same rotations in another representation; see `matrices` and `written`."""
    return written(matrices(values, source), target)


def _orthonormal(values: Float64[np.ndarray, "n 6"]) -> Float64[np.ndarray, "n 3 3"]:
    what = "a 6-D rotation, whose two columns must differ in direction,"
    first = _directions(values[:, :3], what)
    second = _directions(values[:, 3:], what)
    across = _directions(second - (first * second).sum(1, keepdims=True) * first, what)
    return np.stack((first, across, np.cross(first, across)), 2)


def _directions(vectors: Float64[np.ndarray, "n d"], what: str) -> Float64[np.ndarray, "n d"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    short = np.flatnonzero(lengths < SHORTEST)
    if len(short):
        raise UserError(f"{what} has no direction: row {short[0]}; every rotation must be one")
    return vectors / lengths


def _scipy() -> Any:
    # A quarter of a second to import, which only those who turn something wait for.
    from scipy.spatial.transform import Rotation

    return Rotation
