"""Writes HDF5 with exactly the published schemas, of what is seen in the point-mass env.

RoboCasa v0.1: robocasa's `scripts/dataset_states_to_obs.py` and its page "Using and inspecting datasets".
LIBERO: LIBERO's `scripts/create_dataset.py`, which stores what follows an action beside it, bottom row first.
LIBERO without its attributes: OpenVLA's `regenerate_libero_dataset.py`. robomimic: its `dataset_states_to_obs.py`.
ALOHA: tonyzhaozh/aloha's `record_episodes.py`, and Interbotix/aloha's, which compresses. Isaac Lab: its
`hdf5_dataset_file_handler.py`.
"""

import json
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from tests.small import SIZE

from videopolicy import registry
from videopolicy.rollout.demonstrate import record_episode
from videopolicy.types import Episode

REST = np.array([0.0, 0.0, 0.0, 0.0, -1.0])
OSC = {"type": "OSC_POSE", "input_max": 1, "input_min": -1, "impedance_mode": "fixed", "control_delta": True}
ROBOCASA = {
    "robot0_agentview_left_image": "top",
    "robot0_agentview_right_image": "close",
    "robot0_eye_in_hand_image": "close",
}
BDDL = "chiliocosm/bddl_files/libero_90/KITCHEN_SCENE7_open_the_microwave.bddl"


@cache
def recorded(count: int = 3, steps: int = 12, size: int = SIZE) -> tuple[Episode, ...]:
    """Episodes of the env's expert, each a step longer than the one before."""
    envs = [registry.build("envs", "pointmass", f"reach-{('red', 'blue')[seed % 2]}", size=size) for seed in (0, 1)]
    return tuple(record_episode(envs[seed % 2], seed, noise=0.1, steps=steps + seed) for seed in range(count))


def arm(episode: Episode) -> np.ndarray:
    """Seven dimensions out of the env's two: a motion of the pose, and a gripper that closes half way."""
    actions = np.zeros((len(episode), 7))
    actions[:, :2] = episode.actions
    actions[:, 6] = np.where(np.arange(len(episode)) < len(episode) // 2, -1.0, 1.0)
    return actions


def pose(episode: Episode, rotation: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Position, rotation and fingers at every step."""
    length = len(episode)
    place = np.pad(np.float64(episode.states), ((0, 0), (0, 1)), constant_values=0.9)
    return place, np.tile(np.float64(rotation), (length, 1)), np.tile([0.04, -0.04], (length, 1))


def write_robocasa(
    file: Path, episodes: Sequence[Episode], task: str = "OpenDrawer", base: np.ndarray = REST, numbers=None
) -> Path:
    """One task of RoboCasa v0.1, gzip and all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as root:
        data = root.create_group("data")
        for number, episode in zip(numbers or range(len(episodes)), episodes, strict=True):
            demo = data.create_group(f"demo_{number}")
            _common(demo, np.hstack([arm(episode), np.tile(base, (len(episode), 1))]))
            place, turn, fingers = pose(episode, (1.0, 0.0, 0.0, 0.0))
            states = {"robot0_eef_pos": place, "robot0_eef_quat": turn, "robot0_gripper_qpos": fingers}
            for name, values in {**{key: episode.views[view] for key, view in ROBOCASA.items()}, **states}.items():
                demo.create_dataset(f"obs/{name}", data=values, compression="gzip")
            demo.create_dataset("action_dict/rel_pos", data=demo["actions"][:, :3])
            demo.create_dataset("datagen_info/subtask", data=np.zeros(len(episode)))
            demo.attrs["ep_meta"] = json.dumps({"lang": episode.instruction, "layout_id": 3, "style_id": 1}, indent=4)
        data.attrs["total"] = sum(map(len, episodes))
        made = {"env_version": "1.4.1", "type": 1, "env_kwargs": {"robots": "PandaMobile", "controller_configs": OSC}}
        data.attrs["env_args"] = json.dumps({"env_name": task, **made}, indent=4)
        root.create_dataset("mask/10_demos", data=np.array([name.encode() for name in data]))
    return file


def write_libero(file: Path, episodes: Sequence[Episode], attributes: bool = True) -> Path:
    """One task of LIBERO, as published (a frame follows its action) or as OpenVLA regenerates it (it precedes it)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as root:
        data = root.create_group("data")
        for number, episode in enumerate(episodes):
            demo = data.create_group(f"demo_{number}")
            seen, done = (slice(1, None), slice(None, -1)) if attributes else (slice(None), slice(None))
            _common(demo, arm(episode)[done])
            place, turn, fingers = (values[seen] for values in pose(episode, (0.0, np.pi, 0.0)))
            told = {"ee_pos": place, "ee_ori": turn, "ee_states": np.hstack([place, turn]), "gripper_states": fingers}
            told |= {"joint_states": np.zeros((len(place), 7))}
            told |= {"agentview_rgb": episode.views["top"][seen, ::-1]}
            told |= {"eye_in_hand_rgb": episode.views["close"][seen, ::-1]}
            for name, values in told.items():
                demo.create_dataset(f"obs/{name}", data=values)
            demo.create_dataset("robot_states", data=np.hstack([fingers, place, np.zeros((len(place), 4))]))
            if attributes:
                demo.attrs["init_state"] = np.zeros(45)
                demo.attrs["num_samples"] = str(len(place))
            else:
                del demo.attrs["num_samples"], demo.attrs["model_file"]
        if attributes:
            _libero_attributes(data, sum(len(episode) - 1 for episode in episodes))
    return file


def write_robomimic(file: Path, episodes: Sequence[Episode]) -> Path:
    """What robomimic's own script writes: no instruction anywhere."""
    with h5py.File(file, "w") as root:
        data = root.create_group("data")
        for number, episode in enumerate(episodes):
            demo = data.create_group(f"demo_{number}")
            _common(demo, arm(episode))
            for group in ("obs", "next_obs"):
                demo.create_dataset(f"{group}/agentview_image", data=episode.views["top"])
                demo.create_dataset(f"{group}/object", data=np.zeros((len(episode), 10)))
        data.attrs["total"] = sum(map(len, episodes))
        kwargs = {"control_freq": 10, "controller_configs": {**OSC, "control_delta": False}}
        data.attrs["env_args"] = json.dumps({"env_name": "NutAssemblySquare", "type": 1, "env_kwargs": kwargs})
    return file


def write_any(folder: Path, episodes: Sequence[Episode]) -> None:
    """Episodes of any views, actions and states, in a folder; the states lie where robosuite keeps the fingers'."""
    folder.mkdir()
    with h5py.File(folder / "demo.hdf5", "w") as root:
        for number, episode in enumerate(episodes):
            demo = root.create_group(f"data/demo_{number}")
            demo["actions"], demo["obs/robot0_gripper_qpos"] = episode.actions, episode.states
            for view, frames in episode.views.items():
                demo[f"obs/{view}_image"] = frames
            demo.attrs["ep_meta"] = json.dumps({"lang": episode.instruction})
        root["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": episodes[0].fps}})


def numbered(episode: int, steps: int, view: int = 0, side: int = 32) -> np.ndarray:
    """Frames (steps, side, side, 3) whose left third is their step in red, middle their episode, right their view."""
    frames = np.zeros((steps, side, side, 3), np.uint8)
    third = side // 3
    frames[:, :, :third, 0] = (4 * np.arange(steps) + 20)[:, None, None]
    frames[:, :, third : 2 * third, 1] = 20 * episode + 20
    frames[:, :, 2 * third :, 2] = 20 * view + 20
    return frames


def vectors(episode: int, steps: int, width: int) -> np.ndarray:
    """Numbers (steps, width) that differ with the episode, the step and the dimension."""
    return (100 * episode + np.arange(steps)[:, None] + np.arange(width) / 64).astype(np.float32)


def write_isaac(
    file: Path, cameras: Sequence[str] = ("table_cam", "wrist_cam"), count: int = 3, steps: int = 8
) -> Path:
    """What Isaac Lab's recorder writes of a task that sees: all observations under `obs`, no rate."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as root:
        for number in range(count):
            demo = root.create_group(f"data/demo_{number}")
            demo["actions"] = demo["obs/actions"] = vectors(number, steps, 7)
            for view, camera in enumerate(cameras):
                demo.create_dataset(f"obs/{camera}", data=numbered(number, steps, view), compression="gzip")
            for name, width in (("joint_pos", 9), ("eef_pos", 3), ("gripper_pos", 2)):
                demo[f"obs/{name}"] = vectors(number, steps, width) + width
            demo["initial_state/articulation/robot/root_pose"] = np.zeros((1, 7))
            demo.attrs["num_samples"], demo.attrs["success"] = steps, True
        root["data"].attrs["total"] = count * steps
        root["data"].attrs["env_args"] = json.dumps({"env_name": "Isaac-Stack-Cube-v0", "type": 2})
    return file


def write_aloha(folder: Path, episodes: Sequence[Episode], code: str = "") -> None:
    """A file an episode; pictures as arrays, or each coded as "JPEG" or "PNG" and filled up with zeros."""
    folder.mkdir(parents=True)
    for number, episode in enumerate(episodes):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as root:
            root.attrs["sim"], root.attrs["compress"], root.attrs["fps"] = False, bool(code), episode.fps
            root.attrs["instruction"] = episode.instruction
            root["action"], root["observations/qpos"] = episode.actions, episode.states
            for view, frames in episode.views.items():
                root[f"observations/images/{view}"] = _coded(frames, code) if code else frames


def _coded(frames: np.ndarray, code: str) -> np.ndarray:
    pictures = []
    for frame in frames:
        sink = BytesIO()
        Image.fromarray(frame).save(sink, code, quality=95, subsampling=0)
        pictures.append(np.frombuffer(sink.getvalue(), np.uint8))
    longest = max(map(len, pictures)) + 5
    return np.stack([np.pad(picture, (0, longest - len(picture))) for picture in pictures])


def _common(demo: h5py.Group, actions: np.ndarray) -> None:
    length = len(actions)
    demo.create_dataset("actions", data=actions)
    demo.create_dataset("states", data=np.zeros((length, 45)))
    for name in ("rewards", "dones"):
        demo.create_dataset(name, data=np.uint8(np.arange(length) == length - 1))
    demo.attrs["model_file"] = "<mujoco/>"
    demo.attrs["num_samples"] = length


def _libero_attributes(data: h5py.Group, total: int) -> None:
    kwargs = {"control_freq": 20, "controller_configs": OSC, "bddl_file_name": BDDL, "camera_heights": SIZE}
    problem = "libero_kitchen_tabletop_manipulation"
    data.attrs["env_name"] = "Libero_Kitchen_Tabletop_Manipulation"
    data.attrs["env_args"] = json.dumps(
        {
            "type": 1,
            "env_name": data.attrs["env_name"],
            "problem_name": problem,
            "bddl_file": BDDL,
            "env_kwargs": kwargs,
        }
    )
    said = {"problem_name": problem, "domain_name": "robosuite", "language_instruction": "open the microwave"}
    data.attrs["problem_info"] = json.dumps(said)
    data.attrs["macros_image_convention"] = "opengl"
    data.attrs["bddl_file_name"], data.attrs["bddl_file_content"] = BDDL, "(define)"
    data.attrs["num_demos"], data.attrs["total"], data.attrs["tag"] = len(data), total, "libero-v1"
