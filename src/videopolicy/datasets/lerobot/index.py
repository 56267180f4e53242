"""What the descriptions of a LeRobotDataset say, in the same words for v3.0 and v2.1: where each episode is.

v2.1, before many episodes shared a file:

    meta/info.json                              as in v3.0, with other path templates
    meta/tasks.jsonl                            {"task_index": 0, "task": "open it"} a line
    meta/episodes.jsonl                         {"episode_index": 0, "tasks": ["open it"], "length": 120} a line
    data/chunk-000/episode_000000.parquet       one row a control step, of one episode
    videos/chunk-000/KEY/episode_000000.mp4     one episode
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.rows import read_table, schema
from videopolicy.errors import UserError
from videopolicy.upgrades import upgrade_dataset

OLD_TASKS, OLD_EPISODES = Path("meta/tasks.jsonl"), Path("meta/episodes.jsonl")
# What may stand in a path's template: a name, and how wide its number is written.
_FIELD = re.compile(r"\{[a-z_]+(?::0?[0-9]{1,2}d?)?\}")
_OWN = (spec.EPISODE_TASK, spec.EPISODE_SUCCESS, spec.EPISODE_SEED)
# What the format had before, and the module of lerobot 0.3 that brings a data set to the next version.
_CONVERTERS = {
    "v1": "lerobot.datasets.v2.convert_dataset_v1_to_v2",
    "v2.0": "lerobot.datasets.v21.convert_dataset_v20_to_v21",
}


@dataclass(frozen=True)
class Footage:
    """Where one view of one episode is.

    Attributes:
        file: the video.
        first: the number of its frame that is the episode's first.
        count: the frames that the tables give the episode; None if they do not say.
    """

    file: Path
    first: int
    count: int | None


@dataclass(frozen=True)
class EpisodeEntry:
    """One episode, as the tables list it.

    Attributes:
        index: its number in the tables.
        length: its control steps.
        tasks: its instructions, in no order that means anything.
        data: the file of its rows.
        videos: feature key -> where its frames are, for views stored as video.
        task: the env's name of the task, "" if unspecified.
        success: whether it was done, or None.
        seed: the env's seed, or None.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: dict[str, Footage]
    task: str = ""
    success: bool | None = None
    seed: int | None = None


def read_info(path: Path) -> dict[str, Any]:
    """The data set's info.json.

    Raises:
        UserError: it is missing, none, or of a version that is not read.
    """
    file = path / spec.INFO
    if not path.is_dir():
        raise UserError(f"{path}: no such data set; give a folder that `videopolicy record` wrote")
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        version, missing = str(info["codebase_version"]), {"fps", "features", "data_path"} - info.keys()
    except FileNotFoundError as error:
        raise UserError(f"{path}: not a LeRobot data set; {spec.INFO} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: not the description of a LeRobot data set ({error!r})") from error
    if not version.startswith(("v3.", "v2.1")):
        converter = next((name for old, name in _CONVERTERS.items() if version.startswith(old)), None)
        advice = f"convert it with lerobot 0.3: python -m {converter}" if converter else "it is newer than this program"
        raise UserError(f"{file}: version {version} of the format, but v3.0 or v2.1 is needed; {advice}")
    if missing:
        raise UserError(f"{file}: lacks {', '.join(sorted(missing))}")
    fps = info["fps"]
    if not isinstance(fps, int | float) or not math.isfinite(fps) or fps <= 0:
        raise UserError(f"{file}: fps is {fps!r}; it must be a number above 0")
    return upgrade_dataset(info)


def described_by(path: Path, info: dict[str, Any]) -> list[Path]:
    """The files that list the episodes and the instructions."""
    if _is_old(info):
        return [path / OLD_EPISODES, path / OLD_TASKS]
    return [*sorted((path / "meta" / "episodes").glob("*/*.parquet")), path / spec.TASKS]


def read_entries(path: Path, info: dict[str, Any], keys: Iterable[str]) -> list[EpisodeEntry]:
    """Every episode, in order, with where these views of it are.

    Raises:
        UserError: a file is missing, damaged, or lists none, one twice, or another number than info.json.
    """
    read = _read_old if _is_old(info) else _read_new
    with sound(f"{path / 'meta'}: not a list of the data set's episodes"):
        entries = sorted(read(path, info, tuple(keys)), key=lambda entry: entry.index)
        found = {"episodes": len({entry.index for entry in entries}), "frames": sum(entry.length for entry in entries)}
        if not entries or min(entry.length for entry in entries) < 1:
            raise UserError(f"{path}: holds no episodes, or one without a single step")
        for name, count in found.items():
            if info[f"total_{name}"] != count:
                said = info[f"total_{name}"]
                raise UserError(f"{path / spec.INFO}: says {said} {name}, but meta/episodes lists {count}")
        if len(entries) != found["episodes"]:
            raise UserError(f"{path}: meta/episodes lists an episode twice")
    return entries


def read_tasks(path: Path, info: dict[str, Any]) -> dict[int, str]:
    """The instructions by their number.

    Raises:
        UserError: the file is missing or damaged.
    """
    if _is_old(info):
        with sound(f"{path / OLD_TASKS}: not a list of instructions"):
            return {_whole(line["task_index"]): _text(line["task"]) for line in _lines(path / OLD_TASKS)}
    file = path / spec.TASKS
    # It is written as the index of a table of pandas, which may not have been given a name.
    with sound(f"{file}: not a list of instructions"):
        words = next(name for name in ("task", "__index_level_0__", *schema(file).names) if name in schema(file).names)
        return {row["task_index"]: _text(row[words]) for row in read_table(file, ["task_index", words]).to_pylist()}


@contextmanager
def sound(otherwise: str) -> Iterator[None]:
    """Whoever wrote the data set: what is odd in it makes each part of the reading fail in a way of its own."""
    try:
        yield
    # pyarrow's word for a column of another type is NotImplementedError.
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        ArithmeticError,
        RecursionError,
        NotImplementedError,
    ) as error:
        raise UserError(f"{otherwise} ({error!r})") from error


def _is_old(info: dict[str, Any]) -> bool:
    return str(info["codebase_version"]).startswith("v2.")


def _read_new(path: Path, info: dict[str, Any], keys: Sequence[str]) -> Iterator[EpisodeEntry]:
    files = described_by(path, info)[:-1]
    if not files:
        raise UserError(f"{path}: holds no episodes; meta/episodes has no parquet file")
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    for key in keys:
        needed += [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    optional = {"tasks", *_OWN, *(f"videos/{key}/to_timestamp" for key in keys)}
    for file in files:
        for row in read_table(file, needed + [name for name in schema(file).names if name in optional]).to_pylist():
            yield EpisodeEntry(
                _whole(row["episode_index"]),
                _whole(row["length"]),
                tuple(map(_text, row.get("tasks") or ())),
                _inside(path, info["data_path"], **_place(row, "data")),
                {key: _footage(path, info, row, key) for key in keys},
                row.get(spec.EPISODE_TASK) or "",
                row.get(spec.EPISODE_SUCCESS),
                row.get(spec.EPISODE_SEED),
            )


def _footage(path: Path, info: dict[str, Any], row: dict[str, Any], key: str) -> Footage:
    prefix = f"videos/{key}"
    file = _inside(path, info["video_path"], video_key=key, **_place(row, prefix))
    begin, end = row[f"{prefix}/from_timestamp"], row.get(f"{prefix}/to_timestamp")
    first, count = round(begin * info["fps"]), None if end is None else round((end - begin) * info["fps"])
    return Footage(file, _whole(first), count)


def _place(row: dict[str, Any], prefix: str) -> dict[str, int]:
    return {name: _whole(row[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")}


def _read_old(path: Path, info: dict[str, Any], keys: Sequence[str]) -> Iterator[EpisodeEntry]:
    for line in _lines(path / OLD_EPISODES):
        index = _whole(line["episode_index"])
        place = {"episode_index": index, "episode_chunk": index // info["chunks_size"]}
        videos = {key: Footage(_inside(path, info["video_path"], video_key=key, **place), 0, None) for key in keys}
        tasks = tuple(map(_text, line.get("tasks") or ()))
        yield EpisodeEntry(index, _whole(line["length"]), tasks, _inside(path, info["data_path"], **place), videos)


def _inside(path: Path, template: str, **entries: int | str) -> Path:
    """The file in the data set that a template of info.json names; whoever wrote it has no say over other places."""
    if re.search(r"[{}]", _FIELD.sub("", template)):
        raise ValueError(f"{template!r} where a path with names in braces is needed")
    place = PurePosixPath(template.format(**entries))
    if place.is_absolute() or ".." in place.parts:
        raise UserError(f"{path / spec.INFO}: {str(place)!r} leads out of the data set; its files must lie in it")
    return path / place


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file, but the data set needs it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not a readable list, one JSON object a line; it is cut short or damaged") from error


def _whole(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} where a whole number is needed")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} where words are needed")
    return value
