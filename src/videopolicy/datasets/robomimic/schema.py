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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from videopolicy.datasets.robomimic.hdf5 import array, holds, record, rows, text
from videopolicy.errors import UserError, check_range

FPS = 20.0
ARM_LAYOUT = "delta_position delta_axis_angle gripper[-1,1]"
ARM, MOBILE = 7, 12
BASE_AT_REST = (0.0, 0.0, 0.0, 0.0, -1.0)
LIBERO_VIEWS = {"agentview_rgb", "eye_in_hand_rgb"}
VIEW = re.compile(r"(.+)_(?:image|rgb)")
# The proprioception of robosuite and of LIBERO: array -> what it is; "gripper" is as wide as the array.
STATES = (
    {"robot0_eef_pos": "position", "robot0_eef_quat": "quaternion", "robot0_gripper_qpos": "gripper"},
    {"ee_pos": "position", "ee_ori": "axis_angle", "gripper_states": "gripper"},
)
WIDTHS = {"position": 3, "quaternion": 4, "axis_angle": 3}
# Recordings known to be broken: (task, demo).
BAD = {("TurnOnStove", "demo_33"), ("TurnOnStove", "demo_37")}


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


def read_source(file: Path, data: h5py.Group, keys: set[str]) -> ArrayOrigin:
    """What a file says about itself.

    Args:
        file: its path; names the task where the file is silent.
        data: the group of demonstrations.
        keys: the names of the first demonstration's observations.

    Raises:
        UserError: an attribute is not what it should be.
    """
    made, problem = record(data, "env_args"), record(data, "problem_info")
    wanted = made.get("env_kwargs", {})
    libero = keys >= LIBERO_VIEWS
    convention = text(data, "macros_image_convention")
    if convention not in ("", "opengl", "opencv"):
        raise UserError(f"{file}: the images are stored as {convention!r}; known: opengl, opencv")
    fps = float(wanted.get("control_freq", FPS))
    check_range(f"{file}: control_freq", fps, 0.01, 1000)
    task = str(made.get("env_name", ""))
    if libero:
        task = Path(text(data, "bddl_file_name") or file).stem.removesuffix("_demo")
    # LIBERO keeps the instruction whole, in pieces, or in quotation marks.
    instruction = "".join(problem.get("language_instruction", "")).strip('"')
    return ArrayOrigin(
        fps,
        task,
        instruction or (_scene_words(task) if libero else _name_words(task)),
        flipped=convention == "opengl" or (libero and not convention),
        lag=int(libero and bool(convention)),
        action_layout=_action_layout(wanted.get("controller_configs"), libero),
    )


def instruction_of(demo: h5py.Group, source: ArrayOrigin) -> str:
    """What was to be done in one demonstration."""
    said = record(demo, "ep_meta").get("lang", "") or source.instruction
    if not isinstance(said, str):
        raise UserError(f"{demo.file.filename}: {demo.name}: the instruction `lang` in ep_meta is no text: {said!r}")
    return said


def broken(demo: h5py.Group, actions: h5py.Dataset, name: str, source: ArrayOrigin) -> str:
    """Why a demonstration is left out, "" if it is not."""
    if (source.task, name) in BAD:
        return f"a known bad recording of {source.task}"
    if len(actions) <= source.lag:
        return "it has no control steps"
    if read_width(demo, actions) < actions.shape[1] and _moves(rows(actions, 0, len(actions))):
        return f"its base is not at rest, but only the arm's {ARM} dimensions of the action are read"
    return ""


def read_width(demo: h5py.Group, actions: h5py.Dataset) -> int:
    """The action dimensions that are read: of RoboCasa's, those of the arm; of others, all."""
    width = actions.shape[1]
    return ARM if width == MOBILE and "ep_meta" in demo.attrs else width


def read_states(obs: h5py.Group) -> dict[str, h5py.Dataset]:
    """The observations that are the robot's state, as one of the known robots calls them.

    Raises:
        UserError: one is not as wide as it should be.
    """
    for known in STATES:
        found = {key: array(obs, key) for key in known if holds(obs, key)}
        for key, values in found.items():
            kind, shape = known[key], values.shape
            if len(shape) != 2 or shape[1] != WIDTHS.get(kind, shape[1]):
                right = f"(steps, {WIDTHS.get(kind, 'width')})"
                raise UserError(f"{obs.file.filename}: {obs.name}/{key} is {shape}; a {kind} is {right}")
        if found:
            return found
    return {}


def state_word(key: str, width: int) -> str:
    """What a state is, in the words of `videopolicy.actions.layout`."""
    kind = next(known[key] for known in STATES if key in known)
    return kind if kind in WIDTHS else f"{kind}:{width}"


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
