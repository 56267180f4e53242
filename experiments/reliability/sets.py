"""Small undamaged data sets of every format, whose frames and numbers say which they are, so that wrong ones show."""

import csv
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.datasets.hdf5 import write_aloha, write_libero, write_robocasa
from tests.datasets.lerobot.old_format import to_old

from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.assembly import About, assemble
from videopolicy.datasets.lerobot.shard import Shard, ShardWriter
from videopolicy.media import write_mp4
from videopolicy.types import Episode

FPS, SIDE, BLOCK = 20, 64, 8
# Two episodes are equally long, as nothing tells their files apart then but what is inside.
LENGTHS = (9, 12, 9, 14)
VIEWS = ("top", "close")
INSTRUCTIONS = ("push the cube", "pull the lever")
# What stands in a block's place where it is neither black nor white.
UNREADABLE = -1


def picture(episode: int, step: int, view: int) -> np.ndarray:
    """Rows of 8 x 8 pixel blocks: the step, its complement, the episode, the view; below, a moving square."""
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    for row, number in enumerate((step, 255 - step, episode + 1, view + 1)):
        bits = (number >> np.arange(8)) & 1
        image[row * BLOCK : (row + 1) * BLOCK] = np.repeat(bits * 255, BLOCK)[None, :, None]
    image[40:, :, 0] = np.linspace(40, 200, SIDE, dtype=np.uint8)
    at = (step * 3 + 7 * episode) % 48
    image[44:58, at : at + 12] = (230, 40 + 40 * episode, 60)
    return image


def named(frames: np.ndarray) -> np.ndarray:
    """Episode, step and view that each frame says it is, (N, 3); `UNREADABLE` throughout where it says none."""
    rows = frames[:, : 4 * BLOCK, : 8 * BLOCK].reshape(len(frames), 4, BLOCK, 8, BLOCK, 3).mean((2, 4, 5))
    step, complement, episode, view = ((rows > 128) << np.arange(8)).sum(-1).T
    clear = ((rows < 64) | (rows > 191)).all((1, 2)) & (step + complement == 255)
    clear &= (episode > 0) & (episode <= len(LENGTHS)) & (view > 0) & (view <= len(VIEWS))
    found = np.stack([episode - 1, step, view - 1], axis=1)
    return np.where(clear[:, None], found, UNREADABLE)


def numbers(episode: int, steps: int, width: int = 2) -> np.ndarray:
    """Actions (steps, width): the episode and its step, exact in half precision, then more of the same."""
    return np.stack([episode + np.arange(steps) / 64, *[-1 - np.arange(steps) / 64] * (width - 1)], 1).astype(
        np.float32
    )


def recorded(lengths: Sequence[int] = LENGTHS, instructions: Sequence[str] = INSTRUCTIONS) -> list[Episode]:
    """The episodes that every set is made of, as far as its format can hold them."""
    return [
        Episode(
            {name: np.stack([picture(e, n, v) for n in range(steps)]) for v, name in enumerate(VIEWS)},
            instructions[e % len(instructions)],
            FPS,
            numbers(e, steps),
            numbers(e, steps) / 8,
        )
        for e, steps in enumerate(lengths)
    ]


def lerobot(path: Path) -> Path:
    """v3.0, two episodes a file."""
    aside, shards = path.with_name(f"{path.name}.shards"), []
    for number in range(2):
        folder = aside / str(number)
        folder.mkdir(parents=True)
        with ShardWriter(folder, FPS, VIEWS, 10, shards[0].kind if shards else None) as writer:
            for episode in recorded()[2 * number : 2 * number + 2]:
                writer.add([episode], "an episode")
        shards.append(Shard.load(folder))
    assemble(shards, About(FPS), path)
    shutil.rmtree(aside)
    return path


def with_pictures(path: Path) -> Path:
    """v3.0 with PNG files in the tables, as lerobot writes them: no checksums of pages."""
    lerobot(path)
    shutil.rmtree(path / "videos")
    kind, at = pa.struct([("bytes", pa.binary()), ("path", pa.string())]), 0
    for file in sorted((path / "data").rglob("*.parquet")):
        table = pq.read_table(file)
        for v, view in enumerate(VIEWS):
            where = zip(table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
            stored = [{"bytes": _coded(picture(e, n, v)), "path": f"{at + i}.png"} for i, (e, n) in enumerate(where)]
            table = table.append_column(spec.IMAGES + view, pa.array(stored, kind))
        pq.write_table(table, file)
    _change_info(path, lambda about: about.update(dtype="image") if about["dtype"] == "video" else None)
    file = path / spec.EPISODES.format(**spec.place(0))
    table = pq.read_table(file)
    pq.write_table(table.select([name for name in table.column_names if not name.startswith("videos/")]), file)
    return path


def old(version: str) -> Callable[[Path], Path]:
    """v2.1 or v2.0: a file for each episode and view."""

    def write(path: Path) -> Path:
        new = lerobot(path.with_name(f"{path.name}.new"))
        to_old(new, path)
        shutil.rmtree(new)
        if version == "v2.0":
            (path / "meta/episodes_stats.jsonl").unlink()
            (path / "meta/stats.json").write_text("{}", encoding="utf-8")
            info = json.loads((path / spec.INFO).read_text(encoding="utf-8"))
            (path / spec.INFO).write_text(json.dumps(info | {"codebase_version": "v2.0"}), encoding="utf-8")
        return path

    return write


def robomimic(path: Path) -> Path:
    """Two files of RoboCasa's kind, compressed."""
    for number in range(2):
        write_robocasa(path / f"task_{number}.hdf5", recorded()[2 * number : 2 * number + 2])
    return path


def libero(path: Path) -> Path:
    """Two files of LIBERO's kind, with its attributes: a frame is stored beside the action before it."""
    for number in range(2):
        write_libero(path / f"KITCHEN_SCENE{number}_open_it_demo.hdf5", recorded()[2 * number : 2 * number + 2])
    return path


def isaac(path: Path) -> Path:
    """Two files of Isaac Lab's recorder."""
    path.mkdir(parents=True)
    for number in range(2):
        with h5py.File(path / f"stack_{number}.hdf5", "w") as root:
            for place, episode in enumerate(recorded()[2 * number : 2 * number + 2]):
                demo = root.create_group(f"data/demo_{place}")
                demo["actions"], demo["obs/eef_pos"] = episode.actions, episode.states
                for view, frames in episode.views.items():
                    demo.create_dataset(f"obs/{view}_cam", data=frames, compression="gzip")
                demo.attrs["num_samples"], demo.attrs["success"] = len(episode), True
            root["data"].attrs["total"] = sum(LENGTHS[2 * number : 2 * number + 2])
            root["data"].attrs["env_args"] = json.dumps({"env_name": "Isaac-Stack-Cube-v0", "type": 2})
    return path


def aloha(code: str) -> Callable[[Path], Path]:
    """A file an episode; pictures as arrays, or compressed."""

    def write(path: Path) -> Path:
        write_aloha(path, recorded(), code)
        return path

    return write


def folder(path: Path) -> Path:
    """Videos, two with their captions in the table, two with a text file."""
    path.mkdir(parents=True)
    names = ("cups/pour.mp4", "cups/stir.mp4", "lever.mp4", "drawer.mp4")
    for number, (name, episode) in enumerate(zip(names, recorded(), strict=True)):
        (path / name).parent.mkdir(exist_ok=True)
        write_mp4(path / name, episode.views[VIEWS[0]], FPS, full_colour=True)
        if number % 2:
            (path / name).with_suffix(".txt").write_text(f"{episode.instruction} {number}\n", encoding="utf-8")
    with (path / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(names[number], f"{INSTRUCTIONS[0]}, {number}") for number in (0, 2)]
        csv.writer(file).writerows([("file", "caption"), *rows])
    return path


FORMATS: dict[str, Callable[[Path], Path]] = {
    "LeRobot v3.0": lerobot,
    "LeRobot v3.0, pictures": with_pictures,
    "LeRobot v2.1": old("v2.1"),
    "LeRobot v2.0": old("v2.0"),
    "robomimic": robomimic,
    "LIBERO": libero,
    "Isaac Lab": isaac,
    "ALOHA, JPEG": aloha("JPEG"),
    "ALOHA, arrays": aloha(""),
    "folder of videos": folder,
}


def _coded(image: np.ndarray) -> bytes:
    Image.fromarray(image).save(sink := BytesIO(), "PNG")
    return sink.getvalue()


def _change_info(path: Path, change: Callable[[dict], object]) -> None:
    info = json.loads((path / spec.INFO).read_text(encoding="utf-8"))
    for about in info["features"].values():
        change(about)
    (path / spec.INFO).write_text(json.dumps(info), encoding="utf-8")
