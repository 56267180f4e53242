"""What meta/info.json says: the version of the format, the rate, the features, and where files are."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from videopolicy.datasets.files import read_text
from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.faults import OddError, sound
from videopolicy.datasets.notes import Note
from videopolicy.errors import UserError
from videopolicy.upgrades import upgrade_dataset

OLD_EPISODES, OLD_TASKS = Path("meta/episodes.jsonl"), Path("meta/tasks.jsonl")
OLD_STATS = Path("meta/episodes_stats.jsonl")
EPISODES = Path("meta/episodes")
OLD_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
OLD_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
# What may stand in a path's template: a name, and how wide its number is written.
_FIELD = re.compile(r"\{[a-z_]+(?::0?[0-9]{1,2}d?)?\}")


@dataclass(frozen=True)
class Feature:
    """What info.json says of a column or of a view.

    Attributes:
        dtype: "float32", "video", "image" and the like.
        shape: of one step.
        depth: whether it is said to be a depth map.
    """

    dtype: str
    shape: tuple[int, ...]
    depth: bool = False

    @property
    def picture(self) -> bool:
        """Whether it is a camera's."""
        return self.dtype in ("video", "image")

    @property
    def width(self) -> int:
        """How many numbers a step has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Info:
    """The description of a data set.

    Attributes:
        path: the data set.
        old: whether its files are those of v2.1 (or v2.0), not of v3.0.
        fps: control steps a second.
        features: by name.
        templates: of the paths of "data" and "video".
        chunks_size: v2.1: episodes a folder.
        totals: "episodes" and "frames", where it says how many.
        layouts: of "action" and "state", "" where unspecified.
        told: what the conversion that wrote it left out, mended or did not use, one line each.
        notes: what is odd in it.
    """

    path: Path
    old: bool
    fps: float
    features: dict[str, Feature]
    templates: dict[str, str]
    chunks_size: int
    totals: dict[str, int]
    layouts: dict[str, str]
    told: tuple[str, ...]
    notes: tuple[Note, ...]

    @property
    def file(self) -> Path:
        """Where it stands."""
        return self.path / spec.INFO

    def place(self, kind: str, chunk: int, number: int, key: str = "") -> Path:
        """The file that a template names.

        Args:
            kind: "data" or "video".
            chunk: the number of its folder.
            number: its own; in v2.1 that of its episode.
            key: the view of a video.
        """
        return inside(self.path, self.templates[kind], video_key=key, **_names(chunk, number))


_TEMPLATES = {True: {"data": OLD_DATA, "video": OLD_VIDEO}, False: {"data": spec.DATA, "video": spec.VIDEO}}


def read_info(path: Path) -> Info:
    """The data set's description.

    Raises:
        UserError: there is none, or it lacks what nothing else says.
    """
    file = path / spec.INFO
    if not path.is_dir():
        raise UserError(f"{path}: no such data set; give a folder that `videopolicy record` wrote")
    if not file.is_file():
        raise UserError(f"{path}: not a LeRobot data set; {spec.INFO} is missing")
    text = read_text(file)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not JSON; it is cut short or damaged; copy or download it again") from error
    if not isinstance(said, dict) or not said:
        raise UserError(f"{file}: not the description of a LeRobot data set; it should be a JSON object")
    with sound(f"{file}: not the description of a LeRobot data set"):
        return _of(path, file, upgrade_dataset(said))


def _of(path: Path, file: Path, said: dict[str, Any]) -> Info:
    old, notes = _version(path, file, said)
    fps = said["fps"]
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not math.isfinite(fps) or fps <= 0:
        raise UserError(f"{file}: fps is {json.dumps(fps)}; it must be a number above 0")
    features, odd = _features(file, said["features"])
    templates, replaced = _templates(path, file, old, said)
    totals = {name: said.get(f"total_{name}") for name in ("episodes", "frames")}
    layouts = {"action": said.get(spec.ACTION_LAYOUT), "state": said.get(spec.STATE_LAYOUT)}
    size = said.get("chunks_size")
    return Info(
        path,
        old,
        float(fps),
        features,
        templates,
        size if isinstance(size, int) and size > 0 else spec.CHUNK_SIZE,
        {name: count for name, count in totals.items() if isinstance(count, int)},
        {name: layout if isinstance(layout, str) else "" for name, layout in layouts.items()},
        tuple(line for line in said.get(spec.NOTES) or () if isinstance(line, str)),
        (*notes, *odd, *replaced),
    )


def _version(path: Path, file: Path, said: dict[str, Any]) -> tuple[bool, list[Note]]:
    """Whether the files are those of v2.1; they count more than what is said of them."""
    version = str(said.get("codebase_version", ""))
    lists = {True: (path / OLD_EPISODES).is_file(), False: (path / EPISODES).is_dir()}
    looks_old = lists[True] if lists[True] != lists[False] else version.startswith("v2.")
    major = re.match(r"v?([0-9]+)", version)
    newer = major is not None and int(major[1]) > 3
    if newer or not (any(lists.values()) or version.startswith(("v2.", "v3."))):
        older = "lerobot 0.1 to 0.3 have a converter for what is older"
        how = "it is newer than this program" if newer else older
        raise UserError(
            f"{file}: version {version or 'unknown'} of the format is not read, only v2.0, v2.1 and v3.0; {how}"
        )
    if version.startswith("v2." if looks_old else "v3."):
        return looks_old, []
    read = "v2.1" if looks_old else "v3.0"
    told = f"{file}: names {version or 'no version'} of the format; it is read as {read}, as its files are laid out"
    return looks_old, [Note("mended", told)]


def _features(file: Path, said: Any) -> tuple[dict[str, Feature], list[Note]]:
    if not isinstance(said, dict):
        raise OddError("its features are no JSON object")
    found, notes = dict[str, Feature](), []
    for name, about in said.items():
        try:
            dtype, shape = about["dtype"], tuple(about["shape"])
            if not isinstance(dtype, str) or not all(isinstance(side, int) and 0 < side < 10**6 for side in shape):
                raise TypeError
            extra = {**(about.get("video_info") or {}), **(about.get("info") or {})}
        except (KeyError, TypeError, AttributeError):
            wrong = "is not read, as no dtype and shape that make sense are given; write both"
            notes.append(Note("left out", f"{file}: the feature {name!r} {wrong}"))
            continue
        found[name] = Feature(dtype, shape, bool(extra.get("is_depth_map") or extra.get("video.is_depth_map")))
    return found, notes


def _templates(path: Path, file: Path, old: bool, said: dict[str, Any]) -> tuple[dict[str, str], list[Note]]:
    """Where files are; the format's own template stands in for one that names nothing that there is."""
    own, templates, notes = _names(0, 0, old), {}, []
    for kind, usual in _TEMPLATES[old].items():
        given = said.get(f"{kind}_path")
        templates[kind] = given if isinstance(given, str) else usual
        if given is None and kind == "video":
            continue
        shown = f"{file}: {kind}_path is {json.dumps(given)}"
        try:
            inside(path, templates[kind], video_key="KEY", **_names(0, 0))
            if not isinstance(given, str) or (not _begins(path, given) and _begins(path, usual)):
                raise OddError
        except (KeyError, ValueError, IndexError):
            notes.append(Note("mended", f"{shown}, which names no file that is there; {usual} is used"))
            templates[kind] = usual
            continue
        if foreign := set(re.findall(r"{(\w+)", templates[kind])) - {*own, "video_key"}:
            other, this = ("v3.0", "v2.1") if old else ("v2.1", "v3.0")
            words = f"{', '.join(sorted(foreign))} of format {other} in a data set of {this}"
            notes.append(Note("mended", f"{shown}, with {words}; the same files are meant, and read"))
    return templates, notes


def _names(first: int, second: int, old: bool | None = None) -> dict[str, int]:
    """What a template may name: by v2.1 the episode and its folder, by v3.0 a file and its folder; or both."""
    names = {} if old is False else {"episode_chunk": first, "episode_index": second}
    return names if old else names | {"chunk_index": first, "file_index": second}


def _begins(path: Path, template: str) -> bool:
    """Whether there is the folder that a template begins with."""
    return (path / PurePosixPath(template).parts[0]).is_dir()


def inside(path: Path, template: str, **names: int | str) -> Path:
    """The file in the data set that a template names; whoever wrote it has no say over other places.

    Raises:
        UserError: it lies elsewhere.
        ValueError, KeyError: the template is none.
    """
    if re.search(r"[{}]", _FIELD.sub("", template)):
        raise OddError(f"{template!r} where a path with names in braces is needed")
    place = PurePosixPath(template.format(**names))
    if place.is_absolute() or ".." in place.parts:
        raise UserError(f"{path / spec.INFO}: {str(place)!r} leads out of the data set; its files must lie in it")
    return path / place
