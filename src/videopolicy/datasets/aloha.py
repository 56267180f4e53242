"""Reads the HDF5 of ALOHA and ACT: one episode a file.

    action                         (N, D) numbers: the leaders' joints, which the followers are sent to
    observations/qpos              (N, S) numbers: the followers' joints; qvel and effort beside it
    observations/images/NAME       (N, H, W, 3) uint8, or (N, bytes): a JPEG a row, filled up with zeros
    base_action                    (N, 2) numbers: Mobile ALOHA's wheels

Facts, and where they are from:

* An observation is stored beside the action that was taken after it (tonyzhaozh/aloha, `record_episodes.py`), at one
  step each 0.02 s (`DT` in `constants.py`); no attribute says so.
* Plain pictures are RGB: they come from ROS as the cameras publish them, and `visualize_episodes.py` swaps red and blue
  before it gives them to OpenCV.
* Compressed ones are those pictures given to OpenCV's `imencode` (Interbotix/aloha, `record_episodes.py`), which takes
  its input for BGR: in the JPEG red and blue then stand in each other's place. OpenCV's `imdecode` makes that good,
  as in ACT's and LeRobot's first readers. Other recorders write JPEG as its standard has it, which openpi's reader
  expects. No attribute tells the two apart, so here pictures have the colours that the JPEG says, and a note says how
  to swap them.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import h5py

from videopolicy.datasets.hdf5.access import files_at, named, number, opened, root_names, text
from videopolicy.datasets.hdf5.episodes import Hdf5Episodes, StoredSet
from videopolicy.datasets.hdf5.stored import StoredEpisode, action_columns, chosen, contents, steps_of
from videopolicy.datasets.hdf5.told import Told, listed, reason
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError

FPS = 50.0
_ACTION, _OBSERVATIONS, _IMAGES = "action", "observations", "images"
_STATE = "observations/qpos"
# Attributes of a file that recorders write of their own accord.
_RATES = ("fps", "frequency", "control_freq")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})$")
_INSTRUCTIONS = ("language_instruction", "instruction", "task", "prompt")


def open_dataset(path: Path, reading: Reading = AS_IT_IS) -> Hdf5Episodes:
    """Opens one file, or a folder of them: reads names, shapes and attributes, and the head of one picture a view.

    Raises:
        UserError: no such file, or no episode can be read; names the file and the reason.
    """
    path = Path(path)
    reading.refuse_all_but(path, "action_columns", "state_columns", "swap_red_blue")
    files = sorted(files_at(path), key=_by_number)
    if not files:
        wrong = "holds no HDF5 file" if path.exists() else "no such data set"
        raise UserError(f"{path}: {wrong}; give a folder with one .hdf5 file for each episode")
    told, episodes = Told(), list[StoredEpisode]()
    for place, file in enumerate(files):
        try:
            with opened(file) as root, named(file):
                episodes.append(_describe(file, root, place, reading, told))
        except UserError as error:
            told.of_file("left out", file, reason(error, file), [place])
    if missing := _missing_numbers(files):
        text = f"{path}: its files are numbered, but {listed(missing)} is not there; was it removed on purpose?"
        told.of_all("assumed", text)
    coded = [one.file for one in episodes if any(camera.coded for camera in one.cameras.values())]
    for file in coded if not reading.swap_red_blue else ():
        told.of_file(
            "assumed",
            file,
            "compressed pictures are taken to have the colours that JPEG's standard says; if red and blue have changed "
            "places, as in those of ALOHA's own recorder, --swap-red-blue mends it",
        )
    return Hdf5Episodes(StoredSet(path, files, episodes, told, reading.swap_red_blue))


def recognises(path: Path) -> bool:
    """Whether there are HDF5 files, and the first that can be opened has observations, and no group of episodes."""
    there = root_names(path) or set()
    return _OBSERVATIONS in there and "data" not in there


def _describe(file: Path, root: h5py.File, place: int, reading: Reading, told: Told) -> StoredEpisode:
    inside = contents(root, _OBSERVATIONS, _IMAGES)
    if not inside.cameras:
        instead = f", but {listed(inside.others)}" if inside.others else ""
        raise UserError(f"{file}: no images in 8-bit RGB in {_OBSERVATIONS}/{_IMAGES}{instead}")
    other_actions = action_columns(root)
    actions = tuple(column for column in other_actions if column.key == _ACTION)
    if reading.action_columns:
        actions = chosen(root, reading.action_columns, "", "--action-columns")
    states = tuple(column for column in inside.columns if column.key == _STATE)
    if reading.state_columns:
        states = chosen(root, reading.state_columns, _OBSERVATIONS, "--state-columns")
    steps = steps_of([*actions, *states, *inside.cameras.values()], f"{file}: ")
    return StoredEpisode(
        file,
        "",
        "",
        place,
        _instruction(file, root, told),
        _rate(file, root, told),
        steps,
        inside.cameras,
        actions,
        sum(column.width for column in actions) or None,
        "",
        states,
        "",
        tuple(column for column in other_actions if column not in actions),
        tuple(column for column in inside.columns if column not in (*states, *actions)),
        inside.others,
    )


def _rate(file: Path, root: h5py.File, told: Told) -> float:
    for name in _RATES:
        said = number(root, name)
        if said is not None:
            if 0.01 <= said <= 1000:
                return said
            told.of_file("mended", file, f"its attribute {name} is no rate; {FPS:g} steps a second are assumed")
            return FPS
    assumed = f"{FPS:g} steps a second are assumed, as ALOHA records"
    how = f"does not say its rate; {assumed}; if that is wrong, write the right one as the attribute fps of the files"
    told.of_file("assumed", file, how)
    return FPS


def _instruction(file: Path, root: h5py.File, told: Told) -> str:
    for name in _INSTRUCTIONS:
        said = text(root, name).strip()
        if said:
            return said
    words = re.sub(r"[\s_-]+", " ", file.resolve().parent.name).strip()
    how = f"does not say its instruction; the folder's name is used: {words!r}; convert --instruction changes it"
    told.of_file("assumed", file, how)
    return words


def _missing_numbers(files: Sequence[Path]) -> list[str]:
    """The names that a row of numbered files lacks before its last one; [] where most are missing, or none has one."""
    found = [(file.parent, match[1], int(match[2])) for file in files if (match := _NUMBERED.match(file.stem))]
    missing: list[str] = []
    for folder, name in dict.fromkeys(place[:2] for place in found):
        there = {number for *place, number in found if place == [folder, name]}
        gaps = sorted(set(range(max(there))) - there) if max(there) < 2 * len(there) else []
        missing += [f"{name}{number}" for number in gaps]
    return missing


def _by_number(file: Path) -> tuple[Path, float, str]:
    match = _NUMBERED.match(file.stem)
    return file.parent, int(match[2]) if match else float("inf"), file.name
