"""What the attributes of a robomimic-style file say: who wrote it, and how its arrays are to be read.

Facts, and where they are from:

* robosuite hands out pictures as OpenGL stores them, bottom row first, unless `macros.IMAGE_CONVENTION` is "opencv".
  robomimic and RoboCasa turn them before writing (`EnvRobosuite.get_observation`), so theirs are upright.
* LIBERO writes them as they come and says so in the attribute `macros_image_convention` (`scripts/create_dataset.py`).
  Reversing the rows is what makes them upright. Turning by 180 degrees, as OpenVLA's and openpi's conversions do,
  mirrors them as well: left and right change places (openvla issue 295, lerobot issue 3830).
* LIBERO's script stores the observation that `env.step(action)` RETURNS beside that action: frame n was seen after
  action n. Here frame n goes with action n + 1, so an episode is one step shorter than its arrays. OpenVLA's
  `regenerate_libero_dataset.py` stores the observation before the step, and no attributes; there nothing is moved.
* Actions of both are inputs of robosuite's OSC_POSE controller, each in [-1, 1]: 1 is 0.05 m or 0.5 rad per step.
  The gripper is open at -1 and closed at 1. Quaternions are x, y, z, w.
* RoboCasa v0.1 has 12 dimensions: 7 of the arm and the gripper, 3 of the base, 1 of the torso, and -1 for "arm mode".
* `rewards` and `dones` do not say whether the task was done: LIBERO sets the last of both to 1 whatever happened,
  robomimic's meaning depends on an option that the file does not keep.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from videopolicy.datasets.hdf5.access import array, record, rows, text
from videopolicy.datasets.hdf5.stored import Column
from videopolicy.datasets.notes import NoteKind
from videopolicy.errors import UserError

FPS = 20.0
ARM_LAYOUT = "delta_position delta_axis_angle gripper[-1,1]"
ARM, MOBILE = 7, 12
BASE_AT_REST = (0.0, 0.0, 0.0, 0.0, -1.0)
LIBERO_VIEWS = {"agentview_rgb", "eye_in_hand_rgb"}
ACTIONS = "actions"
# The proprioception of robosuite and of LIBERO: array -> what it is; "gripper" is as wide as the array.
STATES = (
    {"robot0_eef_pos": "position", "robot0_eef_quat": "quaternion", "robot0_gripper_qpos": "gripper"},
    {"ee_pos": "position", "ee_ori": "axis_angle", "gripper_states": "gripper"},
)
WIDTHS = {"position": 3, "quaternion": 4, "axis_angle": 3}
# Recordings known to be broken: (task, demonstration).
BAD = {("TurnOnStove", "demo_33"), ("TurnOnStove", "demo_37")}
# robomimic's number for robosuite as what a file was recorded in; its rate is `FPS` unless one is said.
_ROBOSUITE = 1
# Says one thing of a file: of what kind, and what.
Say = Callable[[NoteKind, str], None]


@dataclass(frozen=True)
class ArrayOrigin:
    """What holds for all demonstrations of one file.

    Attributes:
        fps: control steps a second.
        task: the simulator's name of the task, "" if unknown.
        instruction: for demonstrations that have none of their own.
        flipped: whether the bottom row of a picture is stored first.
        lag: control steps by which a frame is stored later than it was seen.
        action_layout: what the first `ARM` dimensions of an action mean, "" if unspecified.
    """

    fps: float
    task: str
    instruction: str
    flipped: bool
    lag: int
    action_layout: str


def read_source(file: Path, data: h5py.Group, keys: Collection[str], say: Say) -> ArrayOrigin:
    """What a file says about itself.

    Args:
        file: its path; names the task where the file is silent.
        data: the group of demonstrations.
        keys: the names of their observations.
        say: is told what cannot be read of it, and what it does not say.

    Raises:
        UserError: nobody can tell which way up its images are stored.
    """
    made, problem = _record(data, "env_args", say), _record(data, "problem_info", say)
    wanted = made.get("env_kwargs")
    wanted = wanted if isinstance(wanted, dict) else {}
    libero = set(keys) >= LIBERO_VIEWS
    convention = text(data, "macros_image_convention")
    if convention not in ("", "opengl", "opencv"):
        raise UserError(f"{file}: the images are stored as {convention!r}; known: opengl, opencv")
    task = str(made.get("env_name", ""))
    if libero:
        task = Path(text(data, "bddl_file_name") or file).stem.removesuffix("_demo")
    # LIBERO keeps the instruction whole, in pieces, or in quotation marks.
    pieces = problem.get("language_instruction", "")
    instruction = "".join(piece for piece in pieces if isinstance(piece, str)).strip('"')
    return ArrayOrigin(
        _rate(made, wanted, libero, say),
        task,
        instruction or (_scene_words(task) if libero else _name_words(task)),
        flipped=convention == "opengl" or (libero and not convention),
        lag=int(libero and bool(convention)),
        action_layout=_action_layout(wanted.get("controller_configs"), libero),
    )


def instruction_of(demo: h5py.Group, source: ArrayOrigin) -> str:
    """What was to be done in one demonstration.

    Raises:
        UserError: what it says of itself is no text.
    """
    said = record(demo, "ep_meta").get("lang", "") or source.instruction
    if not isinstance(said, str):
        raise UserError(f"{demo.file.filename}: {demo.name}: the instruction `lang` in ep_meta is no text")
    return said


def broken(demo: h5py.Group, name: str, source: ArrayOrigin, actions: Sequence[Column]) -> str:
    """Why a demonstration is left out, "" if it is not."""
    if (source.task, name) in BAD:
        return f"is a known bad recording of {source.task}"
    if cut_to_arm(demo, actions):
        values = array(demo, ACTIONS)
        if _moves(rows(values, 0, len(values))):
            return f"its base is not at rest, but only the arm's {ARM} dimensions of the action are read"
    return ""


def cut_to_arm(demo: h5py.Group, actions: Sequence[Column]) -> bool:
    """Whether an action is RoboCasa's, of which only the arm's dimensions are read."""
    return [(one.key, one.width) for one in actions] == [(ACTIONS, MOBILE)] and "ep_meta" in demo.attrs


def known_states(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Those that are the robot's state, as one of the known robots calls them."""
    by_name = {column.name: column for column in columns}
    for known in STATES:
        found = tuple(by_name[key] for key in known if key in by_name)
        if found:
            return found
    return ()


def state_layout(states: Sequence[Column]) -> str:
    """What they are, in the words of `videopolicy.actions.layout`; "" if one of them is not known."""
    kinds = {key: kind for known in STATES for key, kind in known.items()}
    if any(column.name not in kinds for column in states):
        return ""
    return " ".join(_state_word(kinds[column.name], column.width) for column in states)


def _state_word(kind: str, width: int) -> str:
    return kind if WIDTHS.get(kind) == width else f"{'gripper' if kind == 'gripper' else 'other'}:{width}"


def _record(data: h5py.Group, name: str, say: Say) -> dict[str, Any]:
    try:
        return record(data, name)
    except UserError:
        say("mended", f"the attribute {name} is not readable (it should be a JSON object), and is taken as missing")
        return {}


def _rate(made: dict[str, Any], wanted: dict[str, Any], libero: bool, say: Say) -> float:
    """Control steps a second."""
    said, step = wanted.get("control_freq"), made.get("sim_args")
    if said is None and isinstance(step, dict):
        # Isaac Lab: seconds of a physics step, and how many of them make a control step.
        parts = _number(step.get("dt")), _number(step.get("decimation"))
        said = round(1 / (parts[0] * parts[1]), 3) if all(parts) else None
    fps = _number(said)
    if 0.01 <= fps <= 1000:
        return fps
    how = "write the right one as control_freq into env_kwargs of the attribute env_args of data"
    if said is not None:
        say("mended", f"its control_freq is no rate; {FPS:g} steps a second are assumed; if that is wrong, {how}")
    elif not libero and made.get("type") != _ROBOSUITE:
        say("assumed", f"does not say its rate; {FPS:g} steps a second are assumed; if that is wrong, {how}")
    return FPS


def _number(value: Any) -> float:
    """A number from JSON; 0 if it is none."""
    try:
        return float(value) if not isinstance(value, bool) else 0.0
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _moves(actions: np.ndarray) -> bool:
    return not np.allclose(actions[:, ARM:], BASE_AT_REST, rtol=0, atol=1e-6)


def _action_layout(controllers: Any, libero: bool) -> str:
    """Only robosuite's controller of the pose, in steps, has this meaning; without a word, LIBERO's is known."""
    if controllers is None:
        return ARM_LAYOUT if libero else ""
    if isinstance(controllers, list):
        controllers = controllers[0] if len(controllers) == 1 else {}
    parts = controllers.get("body_parts", {}) if isinstance(controllers, dict) else {}
    arm = parts.get("right", controllers) if isinstance(parts, dict) else {}
    stepwise = isinstance(arm, dict) and arm.get("control_delta", arm.get("input_type", "delta") == "delta")
    return ARM_LAYOUT if stepwise and arm.get("type") == "OSC_POSE" else ""


def _scene_words(task: str) -> str:
    return re.sub(r"^[A-Z_]+SCENE\d+_", "", task).replace("_", " ")


def _name_words(task: str) -> str:
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", task)).lower()
