"""The same actions in another layout: other rotations, other ends of the gripper; what would be a guess is refused."""

import numpy as np
from jaxtyping import Float

from videopolicy.actions.layout import ROTATIONS, Layout, Part
from videopolicy.actions.rotations import rewritten
from videopolicy.errors import UserError


def convert(values: Float[np.ndarray, "*n D"], source: Layout, target: Layout) -> Float[np.ndarray, "*n E"]:
    """These actions or states in another layout, part by part and in order; a part that is the same stays to the bit.

    Rotations change their representation, and a gripper's values go linearly from the source's ends to the target's.

    Args:
        values: in the source's layout.
        source: what they mean.
        target: what the result means.

    Returns:
        Values of the same precision, computed in float64.

    Raises:
        UserError: another width than the source's, a rotation that is none, or layouts that do not mean the same.
    """
    source.check(values)
    if reason := obstacle(source, target):
        raise UserError(f"{str(source)!r} cannot become {str(target)!r}: {reason}")
    parts = zip(source.parts, target.parts, strict=True)
    return np.concatenate([_part(values[..., one.slice], one, other) for one, other in parts], -1)


def obstacle(source: Layout, target: Layout) -> str:
    """Why values of one layout cannot be converted to the other; "" if they can."""
    if len(source.parts) != len(target.parts):
        return f"the one has {_count(source)}, the other {_count(target)}, and nothing is dropped or made up"
    reasons = (_obstacle(one, other) for one, other in zip(source.parts, target.parts, strict=True))
    return next(filter(None, reasons), "")


def _count(layout: Layout) -> str:
    return f"{len(layout.parts)} part{'s' if len(layout.parts) > 1 else ''}"


def _part(values: Float[np.ndarray, "*n d"], source: Part, target: Part) -> Float[np.ndarray, "*n e"]:
    if source.kind != target.kind:
        return rewritten(values, source.kind, target.kind).astype(values.dtype)
    if source.ends and target.ends and source.ends != target.ends:
        opened, closed = source.ends
        closing = (values.astype(np.float64) - opened) / (closed - opened)
        return ((1 - closing) * target.ends[0] + closing * target.ends[1]).astype(values.dtype)
    return values


def _obstacle(source: Part, target: Part) -> str:
    if source.kind != target.kind and not {source.kind, target.kind} <= ROTATIONS.keys():
        return f"{source} and {target} are different things"
    if source.reference != target.reference:
        return f"{source} and {target} are measured from different places; actions do not tell where the robot was"
    if source.reference == "delta" and source.kind != target.kind and "axis_angle" in (source.kind, target.kind):
        return f"{source} and {target} may differ in unit: many controllers count steps of an axis-angle in their own"
    if source.kind == target.kind and source.width != target.width:
        return f"{source} and {target} differ in width"
    if (source.ends is None) != (target.ends is None):
        vague = target if source.ends else source
        return f"{vague} does not say which value is open; write gripper[OPEN,CLOSED]"
    return ""
