"""The other side: runs in an environment with the real `lerobot`, which this project never imports.

python theirs.py versions
python theirs.py write FOLDER video|image       writes the recordings of scene.py with lerobot's own writer
python theirs.py read FOLDER ARRAYS.npz BACKEND opens a data set and stores every frame, vector and text it gives
"""

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import scene


def versions():
    """What is installed here, as JSON."""
    found = {"python": platform.python_version()}
    for name in ("lerobot", "torch", "torchcodec", "av", "datasets", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    print(json.dumps(found))


def write(folder, kind):
    """Writes the recordings; the files are so small that the format spreads them over several."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {name: {"dtype": "float32", "shape": (width,), "names": None} for name, width in scene.WIDTHS.items()}
    for name, size in scene.VIEWS.items():
        features[name] = {"dtype": kind, "shape": (*size, 3), "names": ["height", "width", "channels"]}
    small = (
        {"video_files_size_in_mb": 0.02, "data_files_size_in_mb": 0.02} if hasattr(LeRobotDataset, "finalize") else {}
    )
    dataset = LeRobotDataset.create("me/recordings", scene.FPS, features, root=folder, **small)
    for recording in scene.recordings():
        for step, task in enumerate(recording.tasks):
            frame = {name: values[step] for name, values in (recording.views | recording.vectors).items()}
            if small:
                dataset.add_frame(frame | {"task": task})
            else:
                dataset.add_frame(frame, task=task)
        dataset.save_episode()
    if small:
        dataset.finalize()


def read(folder, arrays, backend):
    """Stores what LeRobotDataset gives, step by step: pictures as uint8 (N, H, W, 3)."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("me/recordings", root=folder, video_backend=backend)
    rows = [dataset[index] for index in range(len(dataset))]
    result = {"fps": np.array(dataset.fps), "episodes": np.array(dataset.num_episodes)}
    for name, value in rows[0].items():
        if isinstance(value, torch.Tensor):
            values = torch.stack([row[name] for row in rows]).numpy()
            if value.ndim == 3:
                values = np.round(values.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
            result[name] = values
        elif isinstance(value, str):
            result[name] = np.array([row[name] for row in rows])
    np.savez(arrays, **result)


if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    if command != "versions":
        arguments[0] = Path(arguments[0])
    {"versions": versions, "write": write, "read": read}[command](*arguments)
