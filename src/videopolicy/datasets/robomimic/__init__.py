"""Reads robomimic-style HDF5: RoboCasa v0.1, LIBERO, Isaac Lab, and what robomimic itself writes (see `schema`).

A view is an array of pictures among the observations; `NAME_image` and `NAME_rgb` are called NAME. Of RoboCasa's
twelve action dimensions the seven of the arm are read; an episode whose base moves is left out. `next_obs`, `states`,
`rewards` and `dones` are not read, nor is it said of each file that it has them.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import h5py

from videopolicy.datasets.hdf5.access import (
    array,
    files_at,
    group,
    holds,
    named,
    names,
    number,
    opened,
    root_names,
)
from videopolicy.datasets.hdf5.episodes import Hdf5Episodes, StoredSet
from videopolicy.datasets.hdf5.stored import (
    Camera,
    Column,
    StoredEpisode,
    action_columns,
    chosen,
    column_of,
    contents,
    steps_of,
)
from videopolicy.datasets.hdf5.told import Told, listed, reason
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.datasets.robomimic import schema
from videopolicy.datasets.robomimic.masks import Masks
from videopolicy.errors import UserError

# At the top of a file of another format, `aloha`.
_ELSEWHERE = "observations"
_NUMBERED = re.compile(r"[0-9]{1,9}$")


def open_dataset(path: Path, reading: Reading = AS_IT_IS) -> Hdf5Episodes:
    """Opens one HDF5 file, or a folder of them: reads the names, shapes and attributes of all demonstrations.

    Raises:
        UserError: no such file, an unknown mask, or no demonstration can be read; names the file and the reason.
    """
    path = Path(path)
    reading.refuse_all_but(path, "action_columns", "state_columns", "mask", "swap_red_blue")
    files = files_at(path)
    if not files:
        wrong = "holds no HDF5 file" if path.exists() else "no such data set"
        raise UserError(f"{path}: {wrong}; give an .hdf5 file, or a folder with some in it")
    survey = _FileSurvey(reading)
    for file in files:
        survey.add(file)
    survey.masks.tell(path)
    return Hdf5Episodes(StoredSet(path, files, survey.found, survey.told, reading.swap_red_blue))


def recognises(path: Path) -> bool:
    """Whether there are HDF5 files, and the first that can be opened is not of another format."""
    there = root_names(path) or set()
    return bool(files_at(path)) and ("data" in there or _ELSEWHERE not in there)


class _FileSurvey:
    """What is known after some of the files."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._count = 0
        self.told = Told()
        self.masks = Masks(reading.mask, self.told)
        self.found: list[StoredEpisode] = []

    def add(self, file: Path) -> None:
        """Describes the demonstrations of a file; one that cannot be read is told, and costs only itself."""
        try:
            with opened(file) as root:
                self._add(file, root)
        except UserError as error:
            self.told.of_file("left out", file, reason(error, file))

    def _add(self, file: Path, root: h5py.File) -> None:
        if not holds(root, "data"):
            there = listed(names(root), 6) or "nothing"
            raise UserError(f"{file}: has no group data, as files of robomimic have, but {there}")
        data = group(root, "data")
        demonstrations = self._demonstrations(file, data)
        first, self._count = self._count, self._count + len(demonstrations)
        try:
            wanted = self.masks.select(file, root, demonstrations, first)
            source = schema.read_source(
                file, data, _observed(data, demonstrations), lambda kind, text: self.told.of_file(kind, file, text)
            )
        except UserError as error:
            self.told.of_file("left out", file, reason(error, file), range(first, self._count))
            return
        steps: list[int] = []
        for place, name in enumerate(demonstrations, first):
            if name in wanted:
                steps += self._add_demonstration(file, data, name, source, place)
        if any(one.file == file and not one.instruction.strip() for one in self.found):
            how = "write it as language_instruction into the attribute problem_info of data"
            self.told.of_file("assumed", file, f"nothing says what is done, the instruction is empty; {how}")
        if len(steps) == len(demonstrations):
            self._compare_total(file, data, sum(steps))

    def _demonstrations(self, file: Path, data: h5py.Group) -> list[str]:
        """The names of the demonstrations in the order of their numbers: of all groups, whatever they are called."""
        found = sorted(names(data), key=_by_number)
        others = [name for name in found if not _NUMBERED.search(name) and not isinstance(data.get(name), h5py.Group)]
        if others:
            self.told.of_file("unused", file, f"data holds {listed(others)}, which is no demonstration")
        return [name for name in found if name not in others]

    def _add_demonstration(
        self, file: Path, data: h5py.Group, name: str, source: schema.ArrayOrigin, place: int
    ) -> list[int]:
        """The steps that are stored of it; none if it cannot be read."""
        try:
            with named(f"{file}: data/{name}"):
                one = self._describe(file, data, name, source, place)
        except UserError as error:
            self.told.of_episode("left out", file, name, reason(error, file, f"/data/{name}", f"data/{name}"), place)
            return []
        self.found.append(one)
        return [one.steps + one.lag]

    def _describe(
        self, file: Path, data: h5py.Group, name: str, source: schema.ArrayOrigin, place: int
    ) -> StoredEpisode:
        held = group(data, name)
        inside = contents(held, "obs")
        actions, states = self._actions(held), self._states(held, inside.columns)
        why = schema.broken(held, name, source, actions)
        if not why and not inside.cameras:
            instead = f", but {listed(inside.others)}" if inside.others else ""
            why = f"no images in 8-bit RGB among its observations{instead}; render them, or give the file that has them"
        if why:
            raise UserError(f"{file}: data/{name}: {why}")
        steps = self._steps(file, name, held, [*actions, *states, *inside.cameras.values()])
        if steps <= source.lag:
            raise UserError(f"{file}: data/{name}: has no control steps")
        arm = schema.cut_to_arm(held, actions)
        width = schema.ARM if arm else sum(column.width for column in actions) or None
        meant = [column.key for column in actions] == [schema.ACTIONS] and width == schema.ARM
        return StoredEpisode(
            file,
            name,
            f"data/{name}",
            place,
            schema.instruction_of(held, source),
            source.fps,
            steps - source.lag,
            inside.cameras,
            actions,
            width,
            source.action_layout if meant else "",
            states,
            schema.state_layout(states),
            tuple(column for column in action_columns(held) if column not in actions),
            tuple(column for column in inside.columns if column not in (*states, *actions)),
            inside.others,
            source.task,
            source.flipped,
            source.lag,
        )

    def _actions(self, held: h5py.Group) -> tuple[Column, ...]:
        if self._reading.action_columns:
            return chosen(held, self._reading.action_columns, "", "--action-columns")
        if not holds(held, schema.ACTIONS):
            return ()
        values = array(held, schema.ACTIONS)
        column = column_of(schema.ACTIONS, values)
        if column is None or values.ndim != 2:
            raise UserError(f"its actions are {values.dtype} {values.shape}; they should be numbers (steps, width)")
        return (column,)

    def _states(self, held: h5py.Group, columns: Sequence[Column]) -> tuple[Column, ...]:
        if self._reading.state_columns:
            return chosen(held, self._reading.state_columns, "obs", "--state-columns")
        return schema.known_states(columns)

    def _steps(self, file: Path, name: str, held: h5py.Group, read: Sequence[Column | Camera]) -> int:
        """How many steps all arrays have that are read; says so if the demonstration claims another number."""
        steps = steps_of(read, f"{file}: data/{name}: ")
        said = number(held, "num_samples")
        if said is not None and said != steps:
            text = f"says it has {said:g} steps, but its arrays have {steps}, which are read"
            self.told.of_episode("mended", file, name, text)
        return steps

    def _compare_total(self, file: Path, data: h5py.Group, steps: int) -> None:
        try:
            said = number(data, "total")
        except UserError as error:
            self.told.of_file("mended", file, f"{reason(error, file)}, and is not used")
            return
        if said is not None and said != steps:
            text = f"says it has {said:g} steps in total, but its demonstrations have {steps}; were some removed?"
            self.told.of_file("mended", file, text)


def _by_number(name: str) -> tuple[float, str]:
    match = _NUMBERED.search(name)
    return (int(match[0]) if match else float("inf")), name


def _observed(data: h5py.Group, demonstrations: Sequence[str]) -> set[str]:
    """The names of all observations; those of one demonstration may be damaged."""
    found: set[str] = set()
    for name in demonstrations:
        try:
            with named(name):
                found |= set(names(group(data, f"{name}/obs")))
        except UserError:
            continue
    return found
