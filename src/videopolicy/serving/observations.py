"""Styles: under which keys of a message a robot sends what a policy sees.

`native` has each view by its own name, `state` and `instruction`. The other styles have the instruction in `prompt`:

| style | images | state |
|---|---|---|
| `libero` | `observation/image`, `observation/wrist_image` | `observation/state` (8) |
| `droid` | `observation/` `exterior_image_1_left`, `wrist_image_left` | `joint_position` (7), `gripper_position` (1) |
| `aloha` | `images` with `cam_high`, `cam_low`, `cam_left_wrist`, `cam_right_wrist` | `state` (14) |

These are the keys that the example clients of openpi are known to send. It is assumed that ALOHA's images come channels
first, which the shape tells, and that LIBERO's are what the simulator's renderer gives, turned by 180 degrees: upright
but mirrored, which `turns` mends where a policy learnt from other frames. A style of one's own is a small file:

```toml
instruction = "task"                  # the key; or text = "fold the towel", if the robot does not say it
state = ["arm/joints", "arm/gripper"] # joined in this order; left out if the policy needs none

[views]                               # the policy's view = the key
front = "cameras/front"
wrist = "cameras/wrist"

[turns]                               # as frames are turned on their way in; left out as a rule
wrist = {rotate = 180}
```

A key with slashes is looked for as it stands, then as maps within maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from videopolicy.configs import from_json
from videopolicy.datasets.transforms.turn import FrameTurn
from videopolicy.errors import UserError, unknown
from videopolicy.policies.base import PolicySpec
from videopolicy.serving.limits import read_toml
from videopolicy.types import Image, Observation

NATIVE = "native"
# Of an image, and of an instruction: beyond them something else was sent.
MOST_PIXELS, MOST_LETTERS = 8192, 4000
# Words in the name of a view whose camera is on the arm.
ON_HAND = ("wrist", "hand", "gripper")
SIDES = ("left", "right")


@dataclass(frozen=True)
class Robot:
    """What a kind of robot sends.

    Attributes:
        images: the keys of its cameras, the most general one first.
        state: the keys of its state, in the order in which they are joined.
        instruction: the key of what to do.
    """

    images: tuple[str, ...]
    state: tuple[str, ...]
    instruction: str = "prompt"


ROBOTS = {
    "libero": Robot(("observation/image", "observation/wrist_image"), ("observation/state",)),
    "droid": Robot(
        ("observation/exterior_image_1_left", "observation/wrist_image_left"),
        ("observation/joint_position", "observation/gripper_position"),
    ),
    "aloha": Robot(tuple(f"images/cam_{at}" for at in ("high", "low", "left_wrist", "right_wrist")), ("state",)),
}


@dataclass(frozen=True)
class Style:
    """Where a message has what a policy sees.

    Attributes:
        views: the policy's view -> the key of its image.
        state: the keys of the state, joined in this order; () if the policy needs none.
        instruction: the key of what to do.
        text: what to do, if the robot does not say it.
        turns: view -> how its images are turned on their way in.
    """

    views: dict[str, str]
    state: tuple[str, ...] = ()
    instruction: str = "instruction"
    text: str | None = None
    turns: dict[str, FrameTurn] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """What is read from where, for the user."""
        return [f"view {view} is read from {key}" for view, key in self.views.items()]


def style(name: str, spec: PolicySpec) -> Style:
    """The style of a name, for a policy.

    Args:
        name: one of the table above, or the path of a `.toml` file.
        spec: of the policy.

    Raises:
        UserError: no such style, a mistake in the file, or a view of the policy for which it has no image.
    """
    if name.endswith(".toml"):
        path = Path(name)
        read = from_json(Style, read_toml(path, "keys of a style"), file=path)
        for view in (*read.views, *read.turns):
            if view not in spec.views:
                raise UserError(f"{path}: {unknown('view of the policy', view, spec.views)}")
        missing = [view for view in spec.views if view not in read.views]
        if missing:
            raise UserError(f"{path}: views has no key for {', '.join(missing)}, which the policy sees")
        return read
    if name == NATIVE:
        return Style({view: view for view in spec.views}, ("state",))
    if name not in ROBOTS:
        raise unknown("style", name, (NATIVE, *ROBOTS, "FILE.toml"))
    robot = ROBOTS[name]
    views = {view: _camera(view, name, robot) for view in spec.views}
    if len(set(views.values())) < len(views):
        raise UserError(
            f"style {name} cannot tell which of the views {', '.join(spec.views)} is which of its cameras; name the "
            "key of each in a .toml file (see docs/serving.md)"
        )
    return Style(views, robot.state, robot.instruction)


def _camera(view: str, name: str, robot: Robot) -> str:
    """The key of the camera that a view most likely is."""
    exact = [key for key in robot.images if view in (key, key.rpartition("/")[2])]
    on_hand = [key for key in robot.images if _has(key, ON_HAND) == _has(view, ON_HAND)]
    sides = [side for side in SIDES if side in view]
    # Only where there is a choice: the name of DROID's only camera on the hand has a side, too.
    sided = [key for key in on_hand if any(side in key for side in sides)] if len(on_hand) > 1 else []
    found = exact or sided or on_hand
    if not found:
        raise UserError(f"style {name} has no camera for view {view!r}; name its key in a .toml file")
    return found[0]


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name.rpartition("/")[2] for word in words)


class Reader:
    """Makes observations of messages.

    Args:
        style: where things are.
        state_width: S, of the state that the policy needs; None if it needs none.
        state_layout: what its dimensions mean, for the message.
    """

    def __init__(self, style: Style, state_width: int | None, state_layout: str = "") -> None:
        if state_width is not None and not style.state:
            raise UserError("the policy acts from the robot's state, but the style has no key for it: add `state`")
        self.style, self._width, self._layout = style, state_width, state_layout

    def read(self, message: Mapping[str, object]) -> Observation:
        """What a message shows; keys that nobody asks for are passed over.

        Raises:
            UserError: a key is missing, or what it holds has another shape or dtype; names the key.
        """
        images = {}
        for view, key in self.style.views.items():
            image = _image(key, _find(message, key))
            turn = self.style.turns.get(view)
            images[view] = turn.apply(image[None])[0] if turn else image
        text = self.style.text
        instruction = _text(self.style.instruction, message) if text is None else text
        return Observation(images, instruction, None if self._width is None else self._state(message, self._width))

    def _state(self, message: Mapping[str, object], width: int) -> Float32[np.ndarray, "S"]:
        parts = [numbers(key, _find(message, key)) for key in self.style.state]
        state = np.concatenate(parts)
        if len(state) != width:
            layout = f" {self._layout!r}" if self._layout else ""
            raise UserError(
                f"{' + '.join(self.style.state)}: {len(state)} numbers; the policy's state{layout} has {width}"
            )
        return state


def _find(message: Mapping[str, object], key: str) -> object:
    """What a key holds, as it stands or as maps within maps."""
    if key in message:
        return message[key]
    inner: object = message
    for part in key.split("/"):
        if not isinstance(inner, Mapping) or part not in inner:
            given = ", ".join(sorted(str(name)[:40] for name in list(message)[:20])) or "nothing"
            raise UserError(f"{key!r} is missing; the observation has {given}")
        inner = inner[part]
    return inner


def _image(key: str, value: object) -> Image:
    expected = "give an RGB image, (height, width, 3) uint8"
    if not isinstance(value, np.ndarray):
        raise UserError(f"{key!r} is {_kind(value)}; {expected}")
    if value.ndim == 3 and value.shape[2] != 3 and value.shape[0] == 3:
        value = value.transpose(1, 2, 0)
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        raise UserError(f"{key!r} is {value.shape} {value.dtype}; {expected}")
    if max(value.shape) > MOST_PIXELS:
        raise UserError(f"{key!r} is {value.shape}; give at most {MOST_PIXELS} pixels a side")
    return np.ascontiguousarray(value)


def numbers(key: str, value: object) -> Float32[np.ndarray, "n"]:
    """A value of a message as a row of finite numbers: an array, a list, or a single one.

    Raises:
        UserError: it is anything else; names the key.
    """
    if isinstance(value, list) and all(type(item) in (int, float) for item in value):
        value = np.array(value, dtype=np.float64) if _fits(value) else value
    elif type(value) in (int, float):
        value = np.array([value], dtype=np.float64) if _fits([value]) else value
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "fiu" or value.ndim > 1:
        given = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray | np.generic) else _kind(value)
        raise UserError(f"{key!r} is {given}; give a row of numbers, such as (n,) float32")
    # Too large for float32 is infinite, and refused as such.
    with np.errstate(over="ignore"):
        row = np.atleast_1d(value).astype(np.float32)
    if not np.isfinite(row).all():
        raise UserError(f"{key!r}[{int(np.argmin(np.isfinite(row)))}] is not a finite number")
    return row


def _fits(values: list[object]) -> bool:
    return all(isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63) for value in values)


def _text(key: str, message: Mapping[str, object]) -> str:
    value = _find(message, key)
    if not isinstance(value, str):
        raise UserError(f"{key!r} is {_kind(value)}; give a text")
    if len(value) > MOST_LETTERS:
        raise UserError(f"{key!r} has {len(value)} letters; give at most {MOST_LETTERS}")
    return value


def _kind(value: object) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"
