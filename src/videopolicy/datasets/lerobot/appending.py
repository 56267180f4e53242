"""Appends to a LeRobotDataset v3.0 while robots act: each episode is there for good before the next one begins.

Episodes are written as shards of one (see `shard`) into a folder of the data set that readers pass over, from which
they are assembled into the data set:

    .shards/about.json       the rate, the views and the layouts
    .shards/000000/          the first episode, but for its videos, which are moved to where the data set has them

A shard appears whole or not at all, and then its episode counts. What a killed process did not assemble any more is
assembled by the next one, which begins by assembling everything.
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from videopolicy.datasets.lerobot.assembly import About, Assembly
from videopolicy.datasets.lerobot.shard import Shard, ShardEntry, ShardSchema, ShardWriter
from videopolicy.datasets.lerobot.writer import CRF, check_layouts, refuse_existing
from videopolicy.durable import sync, write_text
from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.ownership import owned
from videopolicy.processes import interrupts_held
from videopolicy.types import Episode

_SHARDS, _ABOUT, _PARTIAL = ".shards", "about.json", ".partial"


class Appender:
    """A context manager that makes a data set or goes on with one: what `add` has returned from survives any end.

    Until the exit no other process can write there. Memory holds one episode's frames, and all actions and states.

    Args:
        path: the data set's folder; must not exist, be empty, or be what an appender has written.
        fps: control steps a second.
        views: the cameras that every episode has.
        action_layout: see `Writer`.
        state_layout: see `Writer`.

    Attributes:
        card: what the data set's README.md will say if it has none yet.

    Raises:
        UserError: something else is there, or a data set of another rate, other views or layouts; another process is
            writing it; an episode does not fit the first one, or its widths the layouts.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        views: Sequence[str],
        action_layout: str = "",
        state_layout: str = "",
    ) -> None:
        self.path, self.card = Path(path), ""
        self._about = About(fps, action_layout, state_layout)
        self._views = tuple(views)
        self._shards = self.path / _SHARDS
        self._assembly = Assembly(self._about, self.path, _move)
        self._entries: list[ShardEntry] = []
        self._owned = ExitStack()

    @property
    def entries(self) -> Sequence[ShardEntry]:
        """The episodes that are there, in order."""
        return tuple(self._entries)

    def __enter__(self) -> "Appender":
        with ExitStack() as stack:
            stack.enter_context(owned(self.path, "drive"))
            with name_path_in_errors(self.path):
                self._open()
            self._owned = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._owned:
            if not self._whole():
                shutil.rmtree(self.path, ignore_errors=True)

    def add(self, episode: Episode) -> None:
        """Appends one episode; a signal to stop waits until it is there.

        Raises:
            UserError: it has other views, sizes or widths than the first, another rate than the data set, arrays of
                another type or shape than `Episode` says, NaN or infinite values, or no steps.
            OSError: the disk is full, and the like; the episodes before are kept, but none can be added.
        """
        number = len(self._entries)
        shard, aside = self._shards / f"{number:06d}", self._shards / f"{number:06d}{_PARTIAL}"
        with interrupts_held(), name_path_in_errors(self.path):
            try:
                aside.mkdir()
                with ShardWriter(aside, self._about.fps, self._views, CRF, self._kind) as writer:
                    writer.add([episode], f"{self.path}: episode {number}")
                    if writer.kind is not None:
                        check_layouts(writer.kind, self._about, self.path)
                sync(aside)
                aside.rename(shard)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            self._take(shard)
            self._tell()

    @property
    def _kind(self) -> ShardSchema | None:
        return self._assembly.kind

    def _open(self) -> None:
        about = self._shards / _ABOUT
        own = json.loads(json.dumps({"views": self._views, **asdict(self._about)}))
        if not about.exists():
            refuse_existing(self.path)
            self._make(json.dumps(own))
            return
        found = json.loads(about.read_text(encoding="utf-8"))
        if differ := [name for name in own if found.get(name) != own[name]]:
            raise UserError(
                f"{self.path} holds episodes with another {', '.join(differ)} ({found.get(differ[0])}, not "
                f"{own[differ[0]]}); name another folder"
            )
        for leftover in [*self.path.rglob(f".*{_PARTIAL}"), *self._shards.glob(f"*{_PARTIAL}")]:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        for shard in self._whole():
            self._take(shard)
        if self._entries:
            self._tell()

    def _make(self, about: str) -> None:
        """The folder, with the description in it from the first moment on."""
        aside = self.path.absolute().with_name(f".{self.path.name}.{os.getpid()}{_PARTIAL}")
        try:
            (aside / _SHARDS).mkdir(parents=True)
            write_text(aside / _SHARDS / _ABOUT, about)
            aside.rename(self.path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _whole(self) -> list[Path]:
        return sorted(path for path in self._shards.iterdir() if path.is_dir() and path.suffix != _PARTIAL)

    def _take(self, folder: Path) -> None:
        shard = Shard.load(folder)
        self._assembly.add(shard)
        self._entries += shard.entries

    def _tell(self) -> None:
        self._assembly.finish()
        if self.card and not (self.path / "README.md").exists():
            write_text(self.path / "README.md", self.card)


def _move(source: Path, video: Path) -> None:
    # Of a shard that was assembled before, it is there.
    if source.exists():
        source.replace(video)
