"""Data sets of lerobot's own writer, broken as public reports say, which `check --repair` is to mend.

Each case takes a whole set of the recordings of `scene`, in the folder that it breaks.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scene

Change = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One way to break a set.

    Attributes:
        says: what is wrong, for the table.
        version: of the format that is broken: "v3.0" or "v2.1".
        change: breaks the set in a folder.
        options: what `check` must be told beside --repair.
        kept: of the recordings, those that can be told from what is left.
    """

    says: str
    version: str
    change: Change
    options: tuple[str, ...] = ()
    kept: Callable[[list], list] = list


def repair(folder: Path, target: Path, options: tuple[str, ...]) -> None:
    """Runs `videopolicy check FOLDER --repair TARGET`; its output is shown if what it wrote is not whole."""
    command = [sys.executable, "-m", "videopolicy", "check", str(folder), "--repair", str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def shorter(recordings: list) -> list:
    """The recordings without the last step of the last."""
    last = recordings[-1]
    views, vectors = ({name: values[:-1] for name, values in part.items()} for part in (last.views, last.vectors))
    return [*recordings[:-1], replace(last, views=views, vectors=vectors, tasks=last.tasks[:-1])]


def _info(folder: Path, **changes: object) -> dict:
    file = folder / "meta/info.json"
    info = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(info, indent=4), encoding="utf-8")
    return info


def _says(**changes: object) -> Change:
    def change(folder: Path) -> None:
        _info(folder, **changes)

    return change


def _edit(folder: Path, pattern: str, change: Callable[[pa.Table], pa.Table]) -> None:
    for file in sorted(folder.glob(pattern)):
        pq.write_table(change(pq.read_table(file)), file)


def _put(table: pa.Table, name: str, values: object) -> pa.Table:
    where = table.schema.get_field_index(name)
    return table.set_column(where, name, pa.array(values, table.schema.field(name).type))


def _split_rows(folder: Path) -> Path:
    """The rows of the second half of the episodes in a file of their own, which meta/episodes does not name."""
    file = folder / "data/chunk-000/file-000.parquet"
    rows, second = pq.read_table(file), file.with_name("file-001.parquet")
    pq.write_table(rows.filter(pc.field("episode_index") >= 2), second)
    pq.write_table(rows.filter(pc.field("episode_index") < 2), file)
    return second


def _stale_data_file(folder: Path) -> None:
    _split_rows(folder)


def _torn_data_file(folder: Path) -> None:
    second = _split_rows(folder)
    _edit(folder, "meta/episodes/*/*.parquet", lambda table: _put(table, "data/file_index", [0, 0, 1, 1]))
    second.write_bytes(second.read_bytes()[:-200])


def _spans(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Change:
    """Gives each episode the span that `change` makes of where it starts and of its place among the set's."""

    def of_table(table: pa.Table) -> pa.Table:
        seconds = np.array(table["length"].to_pylist()) / scene.FPS
        for key in scene.VIEWS:
            starts = np.array(table[f"videos/{key}/from_timestamp"].to_pylist())
            starts = change(starts, np.arange(len(starts)))
            table = _put(table, f"videos/{key}/from_timestamp", starts)
            table = _put(table, f"videos/{key}/to_timestamp", starts + seconds)
        return table

    return lambda folder: _edit(folder, "meta/episodes/*/*.parquet", of_table)


def _no_tables(folder: Path) -> None:
    for file in folder.glob("meta/episodes/*/*.parquet"):
        file.unlink()


def _column(name: str, change: Callable[[np.ndarray, pa.Table], np.ndarray]) -> Change:
    def of_table(table: pa.Table) -> pa.Table:
        return _put(table, name, change(np.array(table[name].to_pylist()), table))

    return lambda folder: _edit(folder, "data/*/*.parquet", of_table)


def _no_task_index(folder: Path) -> None:
    _edit(folder, "data/*/*.parquet", lambda table: table.drop_columns(["task_index"]))


def _split_actions(folder: Path) -> None:
    info = _info(folder)
    feature = info["features"].pop("action")
    parts = {"action.arm": slice(0, 2), "action.gripper": slice(2, 3)}
    for name, part in parts.items():
        info["features"][name] = feature | {"shape": [part.stop - part.start]}
    _info(folder, features=info["features"])

    def of_table(table: pa.Table) -> pa.Table:
        values = np.array(table["action"].to_pylist(), np.float32)
        for name, part in parts.items():
            table = table.append_column(name, pa.array(values[:, part].tolist(), pa.list_(pa.float32())))
        return table.drop_columns(["action"])

    _edit(folder, "data/*/*.parquet", of_table)


def _film(file: Path, fewer: int, rate: Fraction) -> None:
    """Encodes a video anew, without its last frames, at another rate."""
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4", "g": "2"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames[: len(frames) - fewer]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _last_frame_missing(pattern: str) -> Change:
    """One view only, as where the recording ended between two cameras."""
    return lambda folder: _film(folder / pattern.format(key=next(iter(scene.VIEWS))), 1, Fraction(scene.FPS))


def _slow_clock(folder: Path) -> None:
    for file in folder.rglob("*.mp4"):
        _film(file, 0, Fraction(scene.FPS * 1000, 1001))


def _templates_of_v3(folder: Path) -> None:
    names = {"episode_chunk": "chunk_index", "episode_index": "file_index"}
    info = _info(folder)
    for template in ("data_path", "video_path"):
        text = info[template]
        for name, other in names.items():
            text = text.replace("{" + name, "{" + other)
        _info(folder, **{template: text})


def _version_20(folder: Path) -> None:
    (folder / "meta/episodes_stats.jsonl").unlink()
    _info(folder, codebase_version="v2.0")


_BEHIND = _says(total_episodes=2, total_frames=63)
_DRIFT = _spans(lambda starts, place: starts + 0.6 * place / scene.FPS)
_ANEW = _column("index", lambda _, rows: rows["frame_index"])
_TWO = ("--action-columns", "action.arm", "action.gripper")
_LAST_FILM = f"videos/chunk-000/{{key}}/episode_{len(scene.LENGTHS) - 1:06d}.mp4"

CASES = (
    Case("data/file_index names files without the rows", "v3.0", _stale_data_file),
    Case("a data file without its end", "v3.0", _torn_data_file, kept=lambda recordings: recordings[:2]),
    Case("spans drift by 0.6 frames an episode", "v3.0", _DRIFT),
    Case("spans all start at 0", "v3.0", _spans(lambda starts, _: 0 * starts)),
    Case("videos of 10000/1001 frames a second", "v3.0", _slow_clock),
    Case("no meta/episodes", "v3.0", _no_tables),
    Case("counts of one episode more", "v3.0", _says(total_episodes=5, total_frames=150)),
    Case("counts of two episodes fewer", "v3.0", _BEHIND),
    Case("no task_index", "v3.0", _no_task_index),
    Case("timestamp drifts by 2 %", "v3.0", _column("timestamp", lambda times, _: times * 1.02)),
    Case("index starts anew in each episode", "v3.0", _ANEW),
    Case("no stats.json", "v3.0", lambda folder: (folder / "meta/stats.json").unlink()),
    Case("actions in two columns", "v3.0", _split_actions, _TWO),
    Case("a last frame missing", "v3.0", _last_frame_missing("videos/{key}/chunk-000/file-001.mp4"), kept=shorter),
    Case("templates in v3's words", "v2.1", _templates_of_v3),
    Case("a last frame missing", "v2.1", _last_frame_missing(_LAST_FILM), kept=shorter),
    Case("counts of two episodes fewer", "v2.1", _BEHIND),
    Case("no task_index", "v2.1", _no_task_index),
    Case("called v2.0, without statistics", "v2.1", _version_20),
)
