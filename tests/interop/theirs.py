"""The other side: runs in an environment with the real `lerobot`, which this project never imports.

python theirs.py versions
python theirs.py write FOLDER video|image       writes the recordings of scene.py with lerobot's own writer
python theirs.py read FOLDER ARRAYS.npz BACKEND opens a data set and stores every frame, vector and text it gives,
                                                and what of it does not hold together
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
    result["faults"] = np.array([*loose_ends(dataset, result), *wrong_windows(dataset, folder, backend, result)], str)
    np.savez(arrays, **result)


def loose_ends(dataset, result):
    """What of the numbers in rows, tables and statistics is not as lerobot writes them."""
    numbers, count = result["episode_index"], len(result["index"])
    first = np.searchsorted(numbers, np.arange(dataset.num_episodes))
    steps = np.arange(count) - first[numbers]
    meta, stats = dataset.meta, dataset.meta.stats
    rules = {
        "total_frames of info.json": meta.total_frames == count,
        "total_episodes of info.json": meta.total_episodes == numbers.max() + 1,
        "index": (result["index"] == np.arange(count)).all(),
        "frame_index": (result["frame_index"] == steps).all(),
        "timestamp": (np.abs(result["timestamp"] - steps / meta.fps) < dataset.tolerance_s).all(),
    }
    if "dataset_from_index" in getattr(meta.episodes, "column_names", ()):
        rules["dataset_from_index"] = list(meta.episodes["dataset_from_index"]) == first.tolist()
        rules["dataset_to_index"] = list(meta.episodes["dataset_to_index"]) == [*first[1:].tolist(), count]
        rules["tasks of meta/episodes"] = all(
            set(tasks) == set(result["task"][numbers == episode])
            for episode, tasks in enumerate(meta.episodes["tasks"])
        )
    for name in scene.WIDTHS:
        values = result[name].astype(float)
        measured = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
        for kind, value in measured.items():
            rules[f"{kind} of {name}"] = np.allclose(stats[name][kind], value, atol=1e-4)
    for name in meta.camera_keys:
        colour = result[name].mean((0, 1, 2)) / 255
        rules[f"mean of {name}"] = np.allclose(np.ravel(stats[name]["mean"]), colour, atol=0.03)
    return [name for name, holds in rules.items() if not holds]


def wrong_windows(dataset, folder, backend, result):
    """Which of a step and its neighbours, asked for together as training does, are other ones than asked for alone."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = [*dataset.meta.camera_keys, "action"]
    around = {name: [-1 / dataset.fps, 0, 1 / dataset.fps] for name in names}
    windows = LeRobotDataset("me/recordings", root=folder, video_backend=backend, delta_timestamps=around)
    numbers, wrong = result["episode_index"], set()
    for index in range(len(windows)):
        near = np.clip([index - 1, index, index + 1], 0, len(windows) - 1)
        near = np.where(numbers[near] == numbers[index], near, index)
        window = windows[index]
        for name in names:
            values = window[name].numpy()
            if values.ndim == 4:
                values = np.round(values.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
            if not np.array_equal(values, result[name][near]):
                wrong.add(f"window of {name}")
    return sorted(wrong)


if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    if command != "versions":
        arguments[0] = Path(arguments[0])
    {"versions": versions, "write": write, "read": read}[command](*arguments)
