"""Writes a LeRobotDataset v3.0, episode by episode; the data set appears whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from videopolicy.actions.layout import Layout
from videopolicy.datasets.lerobot.assembly import About, assemble
from videopolicy.datasets.lerobot.shard import Shard, ShardSchema, ShardWriter
from videopolicy.errors import UserError
from videopolicy.ownership import owned
from videopolicy.types import Episode

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# A file of the data set is closed at the end of the first episode that brings it to this many steps.
STEPS_A_FILE = 10_000
# The videos' quality (see `videopolicy.media.Encoder`): 38 to 41 dB at 64 pixels.
CRF = 10


class Writer:
    """A context manager: `add` episodes inside, and the data set is there after a clean exit.

    Until then no other process can write there, and everything is in a folder beside the target, which is removed after
    any failure. Memory holds one
    episode's frames at a time, or a part of them. The first episode fixes the images' sizes and whether there are
    actions and states.

    Colours are kept pixel by pixel: at 64 pixels, colours shared by four pixels cost 10 dB, whatever the rate.

    Args:
        path: the data set's folder; must not exist, or be empty.
        fps: control steps a second.
        views: the cameras that every episode has.
        crf: the videos' quality (see `videopolicy.media.Encoder`).
        action_layout: what an action's dimensions mean (see `videopolicy.actions.layout`), "" if unspecified.
        state_layout: the same of the state.

    Attributes:
        card: what the data set's README.md will say; none is written unless it is set before the end.

    Raises:
        UserError: the target exists, or another process is writing it; an episode does not fit the first one, or its
            widths the layouts; full disk.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        views: Sequence[str],
        crf: int = CRF,
        action_layout: str = "",
        state_layout: str = "",
    ) -> None:
        self.path = Path(path)
        self.card = ""
        refuse_existing(self.path)
        self._aside = self.path.absolute().with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._about = About(fps, action_layout, state_layout)
        self._views, self._crf = tuple(views), crf
        self._kind: ShardSchema | None = None
        self._shard: ShardWriter | None = None
        self._shards: list[Path] = []
        self._episodes = 0
        self._torn = False
        self._owned = ExitStack()

    def __enter__(self) -> "Writer":
        with ExitStack() as stack:
            stack.enter_context(owned(self.path, "record"))
            # The folder may be there already where an error comes, and `__exit__` is not called then.
            stack.callback(shutil.rmtree, self._aside, ignore_errors=True)
            try:
                self._aside.mkdir(parents=True)
            except OSError as error:
                raise UserError(f"cannot write to {self._aside.parent} ({error.strerror})") from error
            self._owned = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            error = failure
            raise
        finally:
            if self._shard is not None:
                self._shard.abandon()
            self._owned.close()
            _explain(error, self.path)

    def add(self, episode: Episode) -> None:
        """Appends one episode.

        Raises:
            UserError: it has other views, sizes or widths than the first, another rate than the data set, arrays of
                another type or shape than `Episode` says, NaN or infinite values, or no steps.
        """
        self.add_blocks([episode])

    def add_blocks(self, blocks: Iterable[Episode]) -> None:
        """Appends one episode that comes as consecutive parts, of which only one need be in memory; see `add`."""
        if self._shard is None:
            self._shards.append(self._aside / f"{len(self._shards)}")
            self._shards[-1].mkdir()
            self._shard = ShardWriter(self._shards[-1], self._about.fps, self._views, self._crf, self._kind)
        frames = self._shard.frames
        try:
            self._shard.add(blocks, f"{self.path}: episode {self._episodes}")
            if self._kind is None and self._shard.kind is not None:
                check_layouts(self._shard.kind, self._about, self.path)
                self._kind = self._shard.kind
        except BaseException as error:
            # A mistake that is seen before anything is written does no harm.
            self._torn |= self._shard.frames > frames or not isinstance(error, UserError)
            raise
        self._episodes += 1
        if self._shard.frames >= STEPS_A_FILE:
            self._close()

    def _close(self) -> None:
        shard, self._shard = self._shard, None
        if shard is not None:
            shard.finish()

    def _finish(self) -> None:
        self._close()
        # Its caller went on after an error; every later episode would show the frames of another one.
        if self._torn:
            raise UserError(f"{self.path}: an episode went in only in part, so nothing was kept; see the error before")
        if not self._episodes:
            raise UserError(f"{self.path}: nothing was written, as no episode was added")
        whole = self._aside / "whole"
        assemble(map(Shard.load, self._shards), self._about, whole)
        if self.card:
            (whole / "README.md").write_text(self.card, encoding="utf-8")
        refuse_existing(self.path)
        whole.rename(self.path)


def check_layouts(kind: ShardSchema, about: About, path: Path) -> None:
    """Refuses layouts that do not fit the episodes.

    Raises:
        UserError: a layout is no such text, of another width, or of values that the episodes do not have.
    """
    for name, text, width in (("action", about.action_layout, kind.action), ("state", about.state_layout, kind.state)):
        if text and Layout.parse(text).width != width:
            has = f"has no {name}s" if width is None else f"has {name}s of {width} dimensions"
            raise UserError(
                f"{path}: the {name} layout {text!r} has {Layout.parse(text).width} dimensions, but it {has}"
            )


def refuse_existing(path: Path) -> None:
    """Raises UserError if a data set written to this path would replace something, or has no folder to be in."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not empty; name another folder, or remove it first")
    # The data set takes the folder's place, which these would not let go or not notice.
    if path.absolute().is_mount() or path.resolve() == Path.cwd():
        raise UserError(f"{path} is a mount point or the current folder; name a new folder in it")
    around = next(parent for parent in path.absolute().parents if parent.exists())
    if not (around.is_dir() and os.access(around, os.W_OK)):
        raise UserError(f"cannot write to {path}: {around} is no folder that this user may write to")


def _explain(error: BaseException | None, path: Path) -> None:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        raise UserError(f"no space left to write {path} ({os.strerror(error.errno)}); nothing was kept") from error
