"""Makes small data sets, each broken in one way; every frame and every action carries its numbers (see `cases`)."""

import json
import shutil
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from tests.datasets.hdf5 import write_aloha, write_any
from tests.datasets.lerobot.old_format import DATA, VIDEO, to_old
from tests.test_colours import LIMITED, coded

from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.media import Encoder
from videopolicy.types import Episode

VIEWS, STEPS, FPS, WIDTH = ("front", "wrist"), 36, 20, 7
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab12' * 16}\nsize 5000\n"
NTSC = 30000 / 1001
FRONT, WRIST = (f"videos/observation.images.{view}/chunk-000/file-000.mp4" for view in VIEWS)
ROWS, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


def picture(episode: int, step: int, view: int) -> np.ndarray:
    """64 x 64 pixels, whose three upper rows of blocks are the step, the episode and the view in binary."""
    image = np.full((64, 64, 3), 90, np.uint8)
    for row, number in enumerate((step % 256, episode, view + 1)):
        for bit in range(8):
            image[8 * row : 8 * row + 8, 8 * bit : 8 * bit + 8] = 255 if number >> bit & 1 else 0
    return image


def frames(episode: int, view: int, steps: int = STEPS) -> np.ndarray:
    """All of an episode."""
    return np.stack([picture(episode, step, view) for step in range(steps)])


def vectors(episode: int, steps: int = STEPS, width: int = WIDTH) -> np.ndarray:
    """Actions or states (steps, width), which tell their episode and step."""
    values = 0.8 * np.sin(np.arange(steps)[:, None] / 9 + np.arange(width) + episode)
    values[:, 0] = episode / 10 + np.arange(steps) / 1000
    return values.astype(np.float32)


def words(episode: int) -> str:
    """What is done in an episode."""
    return f"press button {episode % 2}"


def recorded(count: int = 3, steps: int = STEPS, views: Sequence[str] = VIEWS) -> list[Episode]:
    """Episodes as they should be."""
    shown = [{view: frames(number, place, steps) for place, view in enumerate(views)} for number in range(count)]
    values = [vectors(number, steps) for number in range(count)]
    return [Episode(shown[n], words(n), FPS, values[n], values[n]) for n in range(count)]


def new(path: Path, count: int = 3, fps: float = FPS, steps: int = STEPS, views: Sequence[str] = VIEWS) -> Path:
    """A sound LeRobotDataset v3.0."""
    with Writer(path, fps, views) as writer:
        for one in recorded(count, steps, views):
            writer.add(Episode(one.views, one.instruction, fps, one.actions, one.states))
    return path


def old(path: Path) -> Path:
    """A sound LeRobotDataset v2.1."""
    source = new(path.with_name(f".{path.name}"))
    to_old(source, path, chunk=1000)
    shutil.rmtree(source)
    return path


def hdf5(path: Path, count: int = 3) -> Path:
    """A sound file of robomimic."""
    write_any(path, recorded(count))
    return path / "demo.hdf5"


def film(file: Path, episode: int = 0, caption: str = "pour the cup") -> Path:
    """One captioned video."""
    file.parent.mkdir(parents=True, exist_ok=True)
    encode(file, frames(episode, 0))
    file.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return file


def encode(file: Path, images: np.ndarray, fps: float = FPS) -> None:
    """Writes a video whose colours are kept pixel by pixel."""
    with Encoder(file, fps, crf=4, full_colour=True) as encoder:
        encoder.write(images)


def info(path: Path, **changes: object) -> dict:
    """The content of meta/info.json, with changes, which are written."""
    file = path / "meta/info.json"
    said = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(said), encoding="utf-8")
    return said


def put(file: Path, **columns: Sequence | pa.Array) -> None:
    """Replaces columns of a parquet file; None takes one out."""
    table = pq.read_table(file)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        if values is None:
            table = table.drop_columns([name])
            continue
        values = values if isinstance(values, pa.Array) else pa.array(values)
        table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    pq.write_table(table, file)


def cut(file: Path, share: float = 0.5) -> None:
    """Leaves the first part of a file."""
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


def two_files(path: Path, count: int, first: int, said: Sequence[int]) -> Path:
    """The rows in two files, the first of which holds `first` episodes; the list says these files."""
    file = new(path, count) / ROWS
    table = pq.read_table(file)
    pq.write_table(table.filter(pc.field("episode_index") < first), file)
    pq.write_table(table.filter(pc.field("episode_index") >= first), file.with_name("file-001.parquet"))
    put(path / EPISODES, **{"data/file_index": said})
    return path


def no_footer(path: Path) -> None:
    """The last data file was not finished."""
    cut(two_files(path, 3, 2, [0, 0, 1]) / "data/chunk-000/file-001.parquet")


def version_20(path: Path) -> None:
    """A set of v2.0, which has no statistics of episodes."""
    info(old(path), codebase_version="v2.0")
    (path / "meta/episodes_stats.jsonl").unlink()


def pointer(make: Callable[[Path], object], *files: str) -> Callable[[Path], None]:
    """A set whose files are pointers of Git LFS."""

    def write(path: Path) -> None:
        make(path)
        for file in files:
            (path / file).write_text(POINTER, encoding="utf-8")

    return write


def old_video(episode: int, view: str = "front") -> str:
    """Where v2.1 has the video of an episode."""
    return VIDEO.format(episode_chunk=0, episode_index=episode, video_key=f"observation.images.{view}")


def films(path: Path) -> None:
    """Three captioned videos."""
    for number in range(3):
        film(path / f"cup{number}.mp4", number)


def colours(weights: str, full: bool, matrix: int) -> Callable[[Path], None]:
    """A video of colour bars, coded by hand."""

    def write(path: Path) -> None:
        path.mkdir()
        pixels = "yuvj420p" if full else "yuv420p"
        with av.open(str(path / "bars.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"crf": "4"})
            stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
            stream.codec_context.color_range, stream.codec_context.colorspace = 2 if full else LIMITED, matrix
            for step in range(STEPS):
                frame = coded(weights, full, pixels)
                frame.pts, frame.colorspace, frame.color_range = step, matrix, 2 if full else LIMITED
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        (path / "bars.txt").write_text("look at the bars", encoding="utf-8")

    return write


def isaac(path: Path, rename: Sequence[str] = VIEWS) -> None:
    """Cameras and a state of names that robosuite does not have; no rate."""
    with h5py.File(hdf5(path), "r+") as root:
        for demo in root["data"].values():
            for view in rename:
                demo.move(f"obs/{view}_image", f"obs/{view}_cam")
            demo.move("obs/robot0_gripper_qpos", "obs/joint_pos")
        root["data"].attrs["env_args"] = json.dumps({"env_name": "Isaac-Stack-Cube-v0", "type": 2})


def last_frame(path: Path) -> None:
    """The last episode lacks its last frame."""
    file = new(path) / FRONT
    encode(file, np.concatenate([frames(0, 0), frames(1, 0), frames(2, 0, STEPS - 1)]))


def old_last_frame(path: Path) -> None:
    """An episode in the middle lacks its last frame."""
    encode(old(path) / old_video(1), frames(1, 0, STEPS - 1))


def parts(path: Path, action: str, state: str) -> None:
    """Actions and states in two columns each."""
    features = info(new(path))["features"]
    for name, column in (("action", action), ("observation.state", state)):
        values = np.array(pq.read_table(path / ROWS)[name].to_pylist(), np.float32)
        joint = pa.FixedSizeListArray.from_arrays(values[:, :6].ravel(), 6)
        put(path / ROWS, **{name: None, column.format("joint"): joint, column.format("gripper"): values[:, 6]})
        feature = features.pop(name)
        for part, width in (("joint", 6), ("gripper", 1)):
            features[column.format(part)] = {**feature, "shape": [width], "names": None}
    info(path, features=features)
    (path / "meta/stats.json").unlink()


def outlier(path: Path) -> None:
    """One value of one action is 1000."""
    file = new(path, 6) / ROWS
    values = np.array(pq.read_table(file)["action"].to_pylist(), np.float32)
    values[57, 3] = 1000
    put(file, action=pa.FixedSizeListArray.from_arrays(values.ravel(), WIDTH))


def templates(path: Path, **names: str) -> None:
    """The templates of v2.1 have other words."""
    data, video = DATA, VIDEO
    for own, other in names.items():
        data, video = data.replace(own, other), video.replace(own, other)
    info(old(path), data_path=data, video_path=video)


def masks(path: Path) -> None:
    """Masks as robomimic's script writes them, and one more."""
    with h5py.File(hdf5(path, 6), "r+") as root:
        for mask, members in {"train": (0, 1, 2, 4), "valid": (3, 5), "few": (1, 4)}.items():
            root[f"mask/{mask}"] = np.array([f"demo_{number}".encode() for number in members])


def twins(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """What macOS leaves beside every file."""

    def write(path: Path) -> None:
        make(path)
        for file in [file for file in path.rglob("*") if file.is_file()]:
            file.with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")

    return write


def spans(path: Path, change: Callable[[np.ndarray, str], np.ndarray]) -> None:
    """The times of the episodes in their videos, changed."""
    table = pq.read_table(new(path) / EPISODES)
    names = {f"videos/observation.images.{view}/{end}_timestamp": end for view in VIEWS for end in ("from", "to")}
    put(path / EPISODES, **{name: change(np.array(table[name].to_pylist()), end) for name, end in names.items()})


def ntsc(path: Path) -> None:
    """29.97 frames a second by the video's clock, 30 by the description; long enough for two frames to be between."""
    steps = 600
    new(path, 4, fps=30, steps=steps, views=("front",))
    encode(path / FRONT, np.concatenate([frames(number, 0, steps) for number in range(4)]), NTSC)
    ends = np.arange(5) * steps / NTSC
    name = "videos/observation.images.front"
    put(path / EPISODES, **{f"{name}/from_timestamp": ends[:-1], f"{name}/to_timestamp": ends[1:]})
    clock = np.tile(np.arange(steps) / NTSC, 4).astype(np.float32)
    put(path / ROWS, timestamp=clock)


def png(image: np.ndarray) -> bytes:
    """The picture as a file."""
    sink = BytesIO()
    Image.fromarray(image).save(sink, "PNG")
    return sink.getvalue()


def in_tables(path: Path, shape: list[int], draw: Callable[[np.ndarray], np.ndarray]) -> None:
    """Views as PNG in the tables, and one more camera, whose pictures are drawn from the first one's."""
    features = info(new(path))["features"]
    for place, view in enumerate((*VIEWS, "side")):
        make = (lambda image: image) if view in VIEWS else draw
        shown = [png(make(picture(n, step, place % 2))) for n in range(3) for step in range(STEPS)]
        cells = pa.array([{"bytes": one, "path": ""} for one in shown])
        put(path / ROWS, **{f"observation.images.{view}": cells})
        size = [64, 64, 3] if view in VIEWS else shape
        features[f"observation.images.{view}"] = {"dtype": "image", "shape": size, "names": None}
    info(path, features=features, video_path=None)
    shutil.rmtree(path / "videos")


def linked_films(path: Path) -> None:
    """A linked folder beside one that links back to the whole."""
    film(path.with_name(f".{path.name}") / "cup.mp4", 0)
    film(path / "b/jar.mp4", 1, "open the jar")
    (path / "a").symlink_to(path.with_name(f".{path.name}"))
    (path / "b/loop").symlink_to(path)


def linked_hdf5(path: Path) -> None:
    """Nothing but a linked folder."""
    hdf5(path.with_name(f".{path.name}"))
    path.mkdir()
    (path / "a").symlink_to(path.with_name(f".{path.name}"))


def aloha(path: Path, code: str = "") -> None:
    """A file an episode."""
    write_aloha(path, recorded(), code)


def odd(change: Callable[[h5py.Group], object]) -> Callable[[Path], None]:
    """One odd demonstration among good ones."""

    def write(path: Path) -> None:
        with h5py.File(hdf5(path), "r+") as root:
            change(root["data/demo_1"])

    return write


def replaced(name: str, values: np.ndarray | None) -> Callable[[Path], None]:
    """One demonstration has another array of this name, or none."""

    def change(demo: h5py.Group) -> None:
        del demo[name]
        if values is not None:
            demo[name] = values

    return odd(change)


def with_nan(demo: h5py.Group) -> None:
    """One number is none."""
    demo["actions"][5, 2] = np.nan


def no_task_index(path: Path) -> None:
    """Nothing in the rows says what is done."""
    put(new(path) / ROWS, task_index=None)


def old_no_task_index(path: Path) -> None:
    """The same in v2.1."""
    old(path)
    for file in path.glob("data/*/*.parquet"):
        put(file, task_index=None)


def no_camera(path: Path) -> None:
    """Actions and states alone."""
    features = {name: said for name, said in info(new(path))["features"].items() if "images" not in name}
    info(path, features=features, video_path=None)
    shutil.rmtree(path / "videos")


def nothing(path: Path) -> None:
    """Stopped before the first episode."""
    info(new(path), total_episodes=0, total_frames=0)
    for folder in ("data", "videos", "meta/episodes"):
        shutil.rmtree(path / folder)


def shared_cut(path: Path) -> None:
    """Many episodes in one video that is cut short."""
    cut(new(path, 12) / FRONT)


def remove(path: Path, folder: str) -> None:
    """Takes a folder away."""
    shutil.rmtree(path / folder)


def mirrored(path: Path) -> None:
    """The first view has left and right in each other's place."""
    with Writer(path, FPS, VIEWS) as writer:
        for one in recorded():
            views = {**one.views, "front": one.views["front"][:, :, ::-1].copy()}
            writer.add(Episode(views, one.instruction, FPS, one.actions, one.states))


def chinese(path: Path) -> None:
    """Instructions that Latin-1 does not have."""
    with Writer(path, FPS, VIEWS) as writer:
        for one in recorded():
            writer.add(Episode(one.views, "打开抽屉", FPS, one.actions, one.states))
