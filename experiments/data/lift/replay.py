"""Replays robosuite's three human Lift demonstrations, renders them, and writes HDF5 with RoboCasa's schema.

robosuite 1.4.0 carries the demonstrations as simulator states and actions; it is no dependency of this project. So, in
an environment of its own:

    python -m venv lift && lift/bin/pip install robosuite==1.4.0 h5py && lift/bin/python replay.py lift.hdf5

(robosuite's own list of needs includes packages that a replay does without; with `--no-deps`,
mujoco, numba, scipy, pillow, h5py and opencv-python-headless are enough.)
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import h5py
import numpy as np
import robosuite
from tqdm import tqdm

CAMERAS = ("agentview", "robot0_eye_in_hand")
STATES = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
LANG = "lift the cube"


def main() -> None:
    """Renders every demonstration, in the order of their numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the HDF5 file to write")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    arguments = parser.parse_args()
    source = Path(robosuite.__file__).parent / "models" / "assets" / "demonstrations" / "lift" / "demo.hdf5"
    aside = arguments.out.with_suffix(".part")
    with h5py.File(source) as recorded, h5py.File(aside, "w") as file:
        kwargs = json.loads(recorded["data"].attrs["env_info"]) | {"control_freq": 20}
        env = _env(kwargs, arguments.size)
        data = file.create_group("data")
        names = sorted(recorded["data"], key=lambda name: int(name.removeprefix("demo_")))
        for name in names:
            _replay(env, recorded["data"][name], data.create_group(name), name)
        data.attrs["total"] = sum(int(data[name].attrs["num_samples"]) for name in names)
        told = {"env_name": kwargs.pop("env_name"), "env_version": robosuite.__version__, "type": 1}
        data.attrs["env_args"] = json.dumps(told | {"env_kwargs": kwargs}, indent=4)
    aside.rename(arguments.out)


def _env(kwargs: dict, size: int) -> robosuite.environments.base.MujocoEnv:
    return robosuite.make(
        **kwargs,
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_names=list(CAMERAS),
        camera_heights=size,
        camera_widths=size,
        ignore_done=True,
    )


def _replay(env: robosuite.environments.base.MujocoEnv, source: h5py.Group, target: h5py.Group, name: str) -> None:
    env.reset()
    env.reset_from_xml_string(env.edit_model_xml(source.attrs["model_file"]))
    env.sim.reset()
    seen = {key: [] for key in (*STATES, *(f"{camera}_image" for camera in CAMERAS))}
    success = []
    for state in tqdm(source["states"][()], desc=name, unit="frame"):
        env.sim.set_state_from_flattened(state)
        env.sim.forward()
        observed = env._get_observations(force_update=True)
        for key, values in seen.items():
            # robosuite stores the bottom row first; RoboCasa's files are upright.
            values.append(observed[key][::-1] if key.endswith("_image") else observed[key])
        success.append(bool(env._check_success()))
    for key, values in seen.items():
        target.create_dataset(f"obs/{key}", data=np.array(values), compression="gzip")
    target.create_dataset("actions", data=source["actions"][()])
    target.create_dataset("states", data=source["states"][()])
    target.create_dataset("rewards", data=np.array(success, float))
    target.create_dataset("dones", data=np.array(success, int))
    target.attrs["ep_meta"] = json.dumps({"lang": LANG})
    target.attrs["model_file"] = source.attrs["model_file"]
    target.attrs["num_samples"] = len(success)


if __name__ == "__main__":
    main()
