"""Converts recorded data of any known format into a data set of this project's own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from videopolicy.datasets import notes
from videopolicy.datasets.conversion.convert import Outcome, convert
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.conversion.staging import staging_folder
from videopolicy.datasets.phrases import duration, plural
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.datasets.transforms.turn import FLIPS, ROTATIONS
from videopolicy.errors import UserError, check_range
from videopolicy.processes import check_workers
from videopolicy.processors import processors
from videopolicy.progress import say

T = TypeVar("T")
# Notes that are shown; all of them are in the data set's meta/info.json.
SHOWN = 20
LIMITS = {"size": (8, 4096), "fps": (0.01, 1000.0)}


@dataclass(frozen=True)
class Command:
    """Converts SOURCE to OUT, a LeRobotDataset v3.0 as `videopolicy record` writes it, and reads it back.

    OUT appears whole or not at all. Stopped by whatever, the same command goes on where it was. Actions and states
    keep every bit unless --fps changes; the videos' loss is measured and shown.

    Example: videopolicy convert demo.hdf5 data/stove --views left=robot0_agentview_left wrist=robot0_eye_in_hand

    A quarter of the rate, at 64 pixels: videopolicy convert recorded small --fps 5 --size 64

    Pictures that stand on their heads, set upright: videopolicy convert DATA upright --rotate front=180
    """

    source: Annotated[Path, tyro.conf.Positional]
    """A folder or a file of a format from `videopolicy.datasets`."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set; must not exist."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = AS_IT_IS
    format: str | None = None
    """The source's format, if it cannot be told from its files."""
    views: tuple[str, ...] = ()
    """Cameras to keep, in this order: NAME, or NEW=NAME to call it NEW; all unless given."""
    flip: tuple[str, ...] = ()
    """Views to mirror: VIEW=horizontal (left and right change places), VIEW=vertical (top and bottom do) or VIEW=both;
    VIEW is its new name, if --views gives it one."""
    rotate: tuple[str, ...] = ()
    """Views to rotate counter-clockwise: VIEW=90, VIEW=180 or VIEW=270 degrees. What is also mirrored is so first."""
    size: int | None = None
    """Pixels on each side: the middle square of each frame, as area averages. As recorded unless given."""
    fps: float | None = None
    """Steps a second: frames are the nearest earlier ones. With actions, only lower by a whole factor: changes add up,
    absolute ones are the last of the steps they stand for."""
    instruction: tuple[str, ...] = ()
    """Instructions to replace: OLD=NEW each."""
    action_layout: str = ""
    """What an action's dimensions mean, if the source does not say: "delta_position delta_axis_angle gripper[-1,1]"."""
    state_layout: str = ""
    """The same of the state."""
    workers: int = field(default_factory=processors)
    """Processes; one for each core unless given."""

    def run(self) -> None:
        """Converts, and says what was written where.

        Raises:
            UserError: a bad setting, a source that cannot be read, a target that exists, a full disk.
        """
        self._check()
        # Threads that wait for each other on busy cores run many times slower; processes inherit this.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        source = ConversionSource(
            self.source,
            self.format,
            self.reading,
            _renamed("--views", self.views) if self.views else None,
            self.fps,
            self.size,
            dict(_pair("--instruction", text) for text in self.instruction),
            self.action_layout,
            self.state_layout,
            _by_view("--flip", self.flip, FLIPS),
            _by_view("--rotate", self.rotate, ROTATIONS),
        )
        try:
            outcome = convert(source, self.out, self.workers)
        except KeyboardInterrupt:
            if staging_folder(self.out).exists():
                say(f"kept in {staging_folder(self.out)}: the same command goes on from there")
            raise
        print("\n".join(summary(outcome, self.out)))

    def _check(self) -> None:
        for name, (least, most) in LIMITS.items():
            if getattr(self, name) is not None:
                check_range(f"--{name}", getattr(self, name), least, most)
        check_workers(self.workers)


def summary(outcome: Outcome, out: Path) -> list[str]:
    """What was written where, in lines."""
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    lines = [
        f"wrote {out}: {plural(outcome.episodes, 'episode')}, {plural(outcome.frames, 'frame')}, "
        f"{duration(outcome.frames / outcome.fps)}, {size / 1e6:.1f} MB",
        "read back: "
        + ("actions and states are equal to the bit" if outcome.has_actions else "no actions; instructions are equal")
        + f", and so are frame counts; PSNR of {plural(outcome.compared, 'frame')} of each view, mean and worst:",
    ]
    lines += [f"  {view}: {mean:.1f} and {worst:.1f} dB" for view, (mean, worst) in outcome.quality.items()]
    there, shards = outcome.resumed
    if there:
        lines.append(f"{there} of {shards} parts were there already")
    told = notes.lines(outcome.notes, outcome.episodes)
    lines += told[:SHOWN]
    if len(told) > SHOWN:
        lines.append(f"and {len(told) - SHOWN} more, see meta/info.json")
    return lines


def _renamed(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    """New name -> own name; a plain name stays."""
    pairs = [_pair(option, text) if "=" in text else (text, text) for text in texts]
    if len(dict(pairs)) < len(pairs):
        raise UserError(f"{option} {' '.join(texts)}: two views of one name; give each its own as NEW=NAME")
    return dict(pairs)


def _by_view(option: str, texts: tuple[str, ...], known: Sequence[T]) -> dict[str, T]:
    """View -> which of the known values is given for it."""
    named, given = {str(value): value for value in known}, dict[str, T]()
    for text in texts:
        view, value = _pair(option, text)
        if value not in named:
            raise UserError(f"{option} {text!r}: {value!r} is none of {', '.join(named)}; give VIEW={known[0]}, say")
        if view in given:
            raise UserError(f"{option} {' '.join(texts)}: view {view!r} stands there twice; give it once")
        given[view] = named[value]
    return given


def _pair(option: str, text: str) -> tuple[str, str]:
    one, _, other = text.partition("=")
    if not one or not other:
        raise UserError(f"{option} {text!r}: two names are needed, with '=' between them")
    return one, other
