"""What the replayed demonstrations say about uprightness, mirroring and the gripper: writes facts.json and strip.png.

Run as `python experiments/data/lift/facts.py lift.hdf5`, on what `replay.py` wrote.
"""

import argparse
import json
import re
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from videopolicy.datasets.robomimic import open_dataset

HERE = Path(__file__).parent
# The gripper is told to close once in each demonstration; by then it has.
CLOSED_AFTER = 20
# In the flattened state: time, 7 joints, 2 fingers, then the cube's position.
CUBE_Y = 1 + 7 + 2 + 1
SHOWN = 6


def main() -> None:
    """Reads the episodes as training would, and the cube's true place beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    path = parser.parse_args().data
    dataset = open_dataset(path)
    episodes = [dataset.episode(index) for index in range(len(dataset))]
    with h5py.File(path) as file:
        demonstrations = [
            file["data"][name] for name in sorted(file["data"], key=lambda name: int(name.removeprefix("demo_")))
        ]
        cube = [demo["states"][:, CUBE_Y] for demo in demonstrations]
        right = _right_of_camera(demonstrations[0].attrs["model_file"])
    steps = np.concatenate([_columns(episode.views["agentview"]) for episode in episodes])
    facts = {
        "episodes": [len(episode) for episode in episodes],
        "gripper": [_gripper(episode) for episode in episodes],
        "action_largest": float(max(np.abs(episode.actions).max() for episode in episodes)),
        "camera_right_in_world": right,
        "correlation_of_cube_y_and_column": float(np.corrcoef(np.concatenate(cube), steps)[0, 1]),
    }
    (HERE / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    Image.fromarray(_strip(episodes[0])).save(HERE / "strip.png", optimize=True)


def _gripper(episode) -> dict[str, float]:
    """How far apart the fingers are in metres, before and after the command turns from -1 to +1."""
    command, fingers = episode.actions[:, 6], episode.states[:, 7:9]
    change = int(np.argmax(np.diff(command) > 0))
    opening = fingers[:, 0] - fingers[:, 1]
    return {
        "step": change + 1,
        "command_before": float(command[change]),
        "command_after": float(command[change + 1]),
        "opening_before": round(float(opening[change]), 4),
        "opening_after": round(float(opening[change + CLOSED_AFTER]), 4),
    }


def _columns(frames: np.ndarray) -> np.ndarray:
    """The mean column of the red pixels of each frame."""
    colours = frames.astype(int)
    red = (colours[..., 0] > 120) & (colours[..., 1] < 90) & (colours[..., 2] < 90)
    return (red * np.arange(frames.shape[2])).sum((1, 2)) / red.sum((1, 2))


def _right_of_camera(model: str) -> list[float]:
    """Where the right edge of an upright, unmirrored picture lies in the env, from the camera's quaternion."""
    w, x, y, z = map(float, re.search(r'<camera name="agentview"[^>]*quat="([^"]*)"', model)[1].split())
    return [round(value, 3) for value in (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w))]


def _strip(episode) -> np.ndarray:
    chosen = np.linspace(0, len(episode) - 1, SHOWN).astype(int)
    return np.concatenate([np.concatenate(list(frames[chosen]), axis=1) for frames in episode.views.values()])


if __name__ == "__main__":
    main()
