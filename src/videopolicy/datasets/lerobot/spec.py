"""Names, paths and column types of a LeRobotDataset v3.0, shared by the reader and the writer.

    meta/info.json                              features, counts, fps, path templates
    meta/stats.json                             min, max, mean, std, count, quantiles of each feature
    meta/tasks.parquet                          instruction -> task_index
    meta/episodes/chunk-000/file-000.parquet    one row an episode: length, where its rows and its video are, its stats
    data/chunk-000/file-000.parquet             one row a control step, many episodes a file
    videos/KEY/chunk-000/file-000.mp4           the same episodes, one after the other, one file a view

Three columns of the episodes' table are this project's own, and ignored by others: EPISODE_TASK (the env's name of
the task), EPISODE_SUCCESS (bool or null), EPISODE_SEED (int or null); and, where actions were read from video,
EPISODE_LABELLED_BY (text) and EPISODE_CONFIDENCE (float or null). So are three entries of info.json, present where
there is something to say: ACTION_LAYOUT and STATE_LAYOUT (see `videopolicy.actions.layout`), and NOTES (what a
conversion left out, mended or did not use, one line each).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

VERSION = "v3.0"
INFO, STATS, TASKS = Path("meta/info.json"), Path("meta/stats.json"), Path("meta/tasks.parquet")
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

ACTION, STATE, IMAGES = "action", "observation.state", "observation.images."
EPISODE_TASK, EPISODE_SUCCESS, EPISODE_SEED = "videopolicy/task", "videopolicy/success", "videopolicy/seed"
EPISODE_LABELLED_BY, EPISODE_CONFIDENCE = "videopolicy/labelled_by", "videopolicy/confidence"
ACTION_LAYOUT, STATE_LAYOUT, NOTES = "videopolicy/action_layout", "videopolicy/state_layout", "videopolicy/notes"

# Files in a folder, at most.
CHUNK_SIZE = 1000

# Columns that every data file has, with their types.
INDEX_COLUMNS = {
    "timestamp": np.float32,
    "frame_index": np.int64,
    "episode_index": np.int64,
    "index": np.int64,
    "task_index": np.int64,
}


def place(number: int) -> dict[str, int]:
    """Where the n-th file of a kind is: the entries of the path templates."""
    return {"chunk_index": number // CHUNK_SIZE, "file_index": number % CHUNK_SIZE}


def features(sizes: Mapping[str, tuple[int, int]], fps: float, action: int | None, state: int | None) -> dict[str, Any]:
    """The `features` entry of info.json.

    Args:
        sizes: view -> height and width of its frames.
        fps: control steps a second.
        action: width of an action, None if there are none.
        state: the same of the state.
    """
    result: dict[str, Any] = {}
    for name, width in ((ACTION, action), (STATE, state)):
        if width is not None:
            names = [f"{name.split('.')[-1]}_{i}" for i in range(width)]
            result[name] = {"dtype": "float32", "shape": [width], "names": names}
    for view, (height, width) in sizes.items():
        result[IMAGES + view] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.channels": 3,
                "video.codec": "h264",
                "video.pix_fmt": "yuv444p",
                "video.fps": fps,
                "video.is_depth_map": False,
                "has_audio": False,
            },
        }
    for name, kind in INDEX_COLUMNS.items():
        result[name] = {"dtype": np.dtype(kind).name, "shape": [1], "names": None}
    return result


def view_name(key: str) -> str:
    """The view that a video's feature key stands for: "observation.images.top" -> "top"."""
    return key.removeprefix(IMAGES).removeprefix("observation.")
