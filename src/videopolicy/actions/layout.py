"""What the dimensions of an action or a state mean, as a text: `position rotation_6d gripper[-1,1]`.

| word | dimensions | meaning |
|---|---|---|
| `position` | 3 | x, y, z in metres |
| `axis_angle` | 3 | a rotation: its axis times its angle in radians |
| `quaternion` | 4 | a rotation: x, y, z, w |
| `rotation_6d` | 6 | a rotation: the first two columns of its matrix (Zhou et al. 2019) |
| `joints:7` | 7 | joint positions |
| `gripper[-1,1]` | 1 | the gripper; the value when open, then when closed |
| `gripper:2` | 2 | the gripper; which value is open is unspecified |
| `force:1` | 1 | grip force |
| `other:5` | 5 | anything else |

A pose or joints with the prefix `delta_` are added to (composed with) where the robot is, anew at every step; with
`relative_` they are seen from where it was at the first step of the chunk. Without a prefix they are absolute.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from videopolicy.errors import UserError

POSITION = "position"
ROTATIONS = {"axis_angle": 3, "quaternion": 4, "rotation_6d": 6}
FIXED = {POSITION: 3, **ROTATIONS}
COUNTED = ("joints", "gripper", "force", "other")
MOVING = (*FIXED, "joints")
REFERENCES = ("delta", "relative")
KNOWN = (
    "position, axis_angle, quaternion, rotation_6d and joints:N (each also with delta_ or relative_ in front), "
    "gripper[OPEN,CLOSED], gripper:N, force:N, other:N"
)
# Beyond this a number is a slip of the pen, and no robot.
WIDEST = 1000

_WORD = re.compile(
    rf"(?:(?P<reference>{'|'.join(REFERENCES)})_)?(?P<kind>[a-z][a-z_0-9]*?)"
    r"(?::(?P<count>[0-9]{1,4})|\[(?P<open>[^],\s]+),(?P<closed>[^],\s]+)\])?"
)


@dataclass(frozen=True)
class Part:
    """Neighbouring dimensions that mean one thing.

    Attributes:
        kind: "position", "axis_angle", "quaternion", "rotation_6d", "joints", "gripper", "force" or "other".
        width: dimensions.
        start: the first of them.
        reference: what the values are measured from: "" absolute, "delta" where the robot is at each step,
            "relative" where it was at the first step of the chunk.
        ends: of a gripper, its value when open and when closed; None if unspecified, and for other kinds.
    """

    kind: str
    width: int
    start: int
    reference: str = ""
    ends: tuple[float, float] | None = None

    @property
    def slice(self) -> slice:
        """Its dimensions."""
        return slice(self.start, self.start + self.width)

    def __str__(self) -> str:
        """The word that `Layout.parse` reads."""
        prefix = f"{self.reference}_" if self.reference else ""
        if self.ends:
            return f"{prefix}{self.kind}[{','.join(map(_number, self.ends))}]"
        return f"{prefix}{self.kind}" if self.kind in FIXED else f"{prefix}{self.kind}:{self.width}"


@dataclass(frozen=True)
class Layout:
    """What the dimensions of an action or a state mean; `str` gives the text that `parse` reads.

    Attributes:
        parts: side by side, without gaps.
    """

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """The layout that a text names.

        Raises:
            UserError: there is no word, or one that is not known.
        """
        parts: list[Part] = []
        for word in text.split():
            parts.append(_part(word, text, sum(part.width for part in parts)))
        if not parts:
            raise UserError(f"an action layout has at least one word; known: {KNOWN}")
        return cls(tuple(parts))

    @property
    def width(self) -> int:
        """D, the dimensions of all parts."""
        return sum(part.width for part in self.parts)

    def check(self, values: np.ndarray, what: str = "values") -> None:
        """Refuses values (..., D) of another width.

        Raises:
            UserError: says what they were to mean.
        """
        if values.shape[-1:] != (self.width,):
            raise UserError(f"{what} of shape {values.shape} are not in the layout {str(self)!r}, {self.width} wide")

    def __str__(self) -> str:
        return " ".join(map(str, self.parts))


def _part(word: str, text: str, start: int) -> Part:
    match = _WORD.fullmatch(word)
    kind, reference = (match["kind"], match["reference"] or "") if match else ("", "")
    if not match or kind not in (*FIXED, *COUNTED) or (reference and kind not in MOVING):
        raise _unreadable(word, text, f"known: {KNOWN}")
    if match["open"] is not None:
        if kind != "gripper":
            raise _unreadable(word, text, "only a gripper has two ends, as in gripper[-1,1]")
        return Part(kind, 1, start, ends=_ends(match["open"], match["closed"], word, text))
    if (kind in COUNTED) != (match["count"] is not None):
        right = f"{kind} has {FIXED[kind]} dimensions and no number" if kind in FIXED else f"write {kind}:1 or more"
        raise _unreadable(word, text, right + (" or gripper[OPEN,CLOSED]" if kind == "gripper" else ""))
    width = FIXED[kind] if kind in FIXED else int(match["count"])
    if not 1 <= width <= WIDEST:
        raise _unreadable(word, text, f"the number of dimensions is from 1 to {WIDEST}")
    return Part(kind, width, start, reference)


def _ends(opened: str, closed: str, word: str, text: str) -> tuple[float, float]:
    try:
        # Zero has a sign, which a text should not show.
        ends = float(opened) + 0.0, float(closed) + 0.0
    except ValueError:
        ends = math.nan, math.nan
    if not all(map(math.isfinite, ends)) or ends[0] == ends[1]:
        raise _unreadable(word, text, "a gripper's ends are two different numbers: its value when open, when closed")
    return ends


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _unreadable(word: str, text: str, right: str) -> UserError:
    where = f" in {text.strip()!r}" if text.strip() != word else ""
    return UserError(f"no action layout has the word {word!r}{where}; {right}")
