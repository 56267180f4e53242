"""A data set of episodes in HDF5 files, whatever their layout: `robomimic` and `aloha` find them, this reads them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from videopolicy.datasets.hdf5.access import group, named, opened
from videopolicy.datasets.hdf5.stored import Column, StoredEpisode, read_frames, read_vectors
from videopolicy.datasets.hdf5.told import Told, listed
from videopolicy.datasets.hdf5.usual import keep_usual
from videopolicy.datasets.notes import Note
from videopolicy.datasets.phrases import plural
from videopolicy.errors import UserError, unknown
from videopolicy.types import Episode, Frames

# Arrays that are listed as not read.
_LISTED = 16


@dataclass(frozen=True)
class StoredSet:
    """What a format has found in its files.

    Attributes:
        path: the data set.
        files: those of it.
        episodes: all that can be read, in the order of their numbers.
        told: what was said of the others.
        swapped: whether red and blue change places in compressed pictures.
    """

    path: Path
    files: Sequence[Path]
    episodes: Sequence[StoredEpisode]
    told: Told
    swapped: bool = False


class Hdf5Episodes:
    """A `videopolicy.datasets.base.Dataset`. Safe to send to other processes: no file stays open between two calls.

    The fingerprint is of names, sizes, lengths and attributes, not of the pictures.

    Raises:
        UserError: no episode is left.
    """

    def __init__(self, found: StoredSet) -> None:
        self.path = found.path
        kept = keep_usual(found.episodes, found.told)
        if not kept:
            raise UserError(_nothing_left(found.path, found.told.notes()))
        acting = [one for one in kept if one.acts]
        _tell_what_is_unused(found, kept)
        _tell_who_does_not_act(found.told, kept)
        self._episodes, self._swapped = kept, found.swapped
        first = kept[0]
        self.views = tuple(first.cameras)
        self.fps = first.fps
        self.action_width = acting[0].action_width if acting else None
        self.action_layout = acting[0].action_layout if acting else ""
        self.state_width = sum(column.width for column in first.states) or None
        self.state_layout = first.state_layout
        self.tasks = tuple(dict.fromkeys(one.instruction for one in kept))
        self.notes = found.told.notes()
        self.fingerprint = self._hash(found.files)

    def __len__(self) -> int:
        return len(self._episodes)

    def length(self, index: int) -> int:
        """The control steps of one episode, without reading it."""
        return self._episodes[index].steps

    def number(self, index: int) -> int:
        """The episode's place among all that are on disk, those included that are left out or held back."""
        return self._episodes[index].number

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its steps start to stop - 1, with only these views read (every view if None).

        Raises:
            UserError: unknown view; the file is damaged or has changed; actions or states are not finite.
        """
        one = self._episodes[index]
        last = one.steps if stop is None else min(stop, one.steps)
        for view in views or ():
            if view not in one.cameras:
                raise UserError(f"{self.path}: {unknown('view', view, self.views)}")
        wanted = self.views if views is None else views
        with opened(one.file) as root, named(one):
            held = group(root, one.group)
            frames = {view: self._frames(held, one, view, start, last) for view in wanted}
            actions = read_vectors(held, one.actions, start + one.lag, last + one.lag, one) if one.acts else None
            states = read_vectors(held, one.states, start, last, one) if one.states else None
        cut = None if actions is None else actions[:, : one.action_width].copy()
        return Episode(frames, one.instruction, self.fps, cut, states, one.task)

    def _frames(self, held: h5py.Group, one: StoredEpisode, view: str, start: int, stop: int) -> Frames:
        frames = read_frames(held, one.cameras[view], start, stop, self._swapped)
        return np.ascontiguousarray(frames[:, ::-1]) if one.flipped else frames

    def _hash(self, files: Sequence[Path]) -> str:
        digest = hashlib.sha256(repr(self._swapped).encode())
        for file in files:
            # What is left out may be a link to nothing.
            size = file.stat().st_size if file.exists() else 0
            digest.update(repr((_relative(file, self.path), size)).encode())
        for one in self._episodes:
            digest.update(repr(replace(one, file=_relative(one.file, self.path))).encode())
        return digest.hexdigest()[:16]


def _relative(file: Path, path: Path) -> Path:
    return file.relative_to(path) if file != path else Path()


def _nothing_left(path: Path, notes: Sequence[Note]) -> str:
    lost = [note for note in notes if note.kind == "left out"]
    if not lost:
        return f"{path}: holds no demonstrations"
    more = f"; {plural(len(lost) - 1, 'other reason')} beside this" if len(lost) > 1 else ""
    most = max(lost, key=lambda note: len(note.episodes))
    return f"no episode can be read: {most}{more}"


def _tell_what_is_unused(found: StoredSet, kept: Sequence[StoredEpisode]) -> None:
    """Says what lies beside what is read, once for all episodes."""

    def tell(before: str, names: Iterable[str], after: str = "") -> None:
        different = list(dict.fromkeys(names))
        if different:
            found.told.of_all("unused", f"{found.path}: {before} {listed(different, _LISTED)}{after}")

    states = [column for one in kept for column in one.other_states]
    none = "no state is read, as none of the known names is there; what there is:"
    beside = "numbers that are no part of the state:" if kept[0].states else none
    tell(beside, map(str, states), _option("state", states))
    if any(one.acts for one in kept):
        actions = [column for one in kept for column in one.other_actions]
        tell("numbers that are no part of the action:", map(str, actions), _option("action", actions))
    tell(
        "neither images in 8-bit RGB nor rows of numbers, so not read:", (other for one in kept for other in one.others)
    )
    four = (view for one in kept for view, camera in one.cameras.items() if camera.channels == 4)
    tell("a fourth channel, taken for transparency and not read, of the view", four)


def _option(kind: str, columns: Sequence[Column]) -> str:
    """How to read columns; an action is not offered as a state."""
    names = [column.name for column in columns]
    fitting = [name for name in dict.fromkeys(names) if kind == "action" or "action" not in name] or names
    return f"; name those that make up the {kind}, such as --{kind}-columns {' '.join(fitting[:2])}"


def _tell_who_does_not_act(told: Told, kept: Sequence[StoredEpisode]) -> None:
    """Says which episodes have no actions, and what could be the action."""
    some = any(one.acts for one in kept)
    for one in kept:
        if one.acts:
            continue
        others = listed([str(column) for column in one.other_actions], _LISTED)
        option = f"--action-columns {' '.join(column.name for column in one.other_actions)}"
        could = f"; {others} could be the action: {option}" if others else ""
        if some:
            told.of_episode("video only", one.file, one.name, f"has no actions{could}", one.number)
        else:
            told.of_episode("left out", one.file, one.name, f"has no actions, so that only its video is read{could}")
