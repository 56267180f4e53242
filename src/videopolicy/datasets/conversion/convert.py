"""Converts a data set of any format into the project's own, over many processes; a stopped conversion goes on."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.conversion.shard import Report, Segment, ShardJob, shard_folder
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.conversion.staging import staging, staging_folder
from videopolicy.datasets.conversion.workers import convert_runs
from videopolicy.datasets.lerobot import LeRobot, open_dataset
from videopolicy.datasets.lerobot.assembly import About, assemble
from videopolicy.datasets.lerobot.shard import Shard, ShardSchema
from videopolicy.datasets.lerobot.writer import CRF, STEPS_A_FILE, refuse_existing
from videopolicy.datasets.notes import Note, kept, merged
from videopolicy.datasets.phrases import plural
from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.places import check_place
from videopolicy.processes import end_if_unguarded
from videopolicy.progress import progress_bar

# A set is cut into so many shards, if they have from LEAST to STEPS_A_FILE frames.
_SHARDS, _LEAST = 64, 500
# Episodes that decide what all must be.
_ASKED = 5
# Changes whenever what is written does.
_VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """What a conversion wrote.

    Attributes:
        episodes: how many.
        frames: of each view.
        fps: control steps a second.
        quality: view -> mean and least PSNR of the frames that were compared with what was to be written, in dB.
        compared: how many frames of each view were.
        has_actions: whether there are actions.
        notes: what was left out, mended or not used.
        resumed: how many shards were there already, of how many.
    """

    episodes: int
    frames: int
    fps: float
    quality: Mapping[str, tuple[float, float]]
    compared: int
    has_actions: bool
    notes: tuple[Note, ...]
    resumed: tuple[int, int] = (0, 0)


def convert(source: ConversionSource, target: Path, workers: int, card: str = "") -> Outcome:
    """Writes a data set of the project's own format; it appears whole, after it was read back, or not at all.

    What is written does not depend on the number of workers, nor on how often the conversion was stopped.

    Args:
        source: what to convert; episodes that cannot be read or do not fit the others are left out and told, or
            stop it if its reading is strict.
        target: the data set's folder; must not exist, or be empty.
        workers: processes.
        card: the data set's README.md; "" leaves it without one.

    Raises:
        UserError: the source or the target will not do, another process is writing the target, no episode can be
            read.
        OSError: the disk is full, and the like; the same call goes on from there.
    """
    end_if_unguarded()
    check_target(source.path, target)
    dataset, fingerprint = source.open()
    recipe = {"version": _VERSION, "source": fingerprint} | asdict(source)
    # What is damaged is damaged either way.
    recipe |= {"path": None, "reading": asdict(replace(source.reading, strict=False))}
    recipe = json.loads(json.dumps(recipe | {"views": source.views and list(source.views.items())}))
    with staging(target, recipe) as folder:
        refuse_existing(target)
        job = ShardJob(source, folder / "shards", _kind(dataset, source.reading.strict), CRF)
        runs = plan([dataset.length(index) for index in range(len(dataset))])
        there = _write(job, runs, workers)
        outcome = replace(_finish(dataset, job, runs, folder / "whole"), resumed=(there, len(runs)))
        refuse_existing(target)
        with name_path_in_errors(target):
            if card:
                (folder / "whole" / "README.md").write_text(card, encoding="utf-8")
            (folder / "whole").rename(target)
    return outcome


def plan(lengths: list[int]) -> list[Segment]:
    """Cuts a data set into runs of episodes that are converted independently."""
    enough = max(_LEAST, min(STEPS_A_FILE, sum(lengths) // _SHARDS))
    runs, first, frames = [], 0, 0
    for index, length in enumerate(lengths):
        frames += length
        if frames >= enough or index == len(lengths) - 1:
            runs.append(Segment(len(runs), first, index + 1, frames))
            first, frames = index + 1, 0
    return runs


def check_target(source: Path, target: Path) -> None:
    """Raises UserError if a data set may not be written there: something is there already, or it is the source."""
    check_place(target, "convert", [source])
    if not staging_folder(target).exists():
        refuse_existing(target)


def _kind(dataset: Dataset, strict: bool) -> ShardSchema:
    """What all episodes must be: what most of some are that are spread over the data set, of those that can be read."""
    spread = np.unique(np.linspace(0, len(dataset) - 1, 1 if strict else _ASKED).round().astype(int)).tolist()
    kinds: list[ShardSchema] = []
    why = ""
    for index in (*spread, *range(len(dataset))):
        if index not in spread and kinds:
            break
        try:
            kinds.append(ShardSchema.of(dataset.episode(index, None, 0, 1), dataset.views))
        except UserError as error:
            if strict:
                raise
            why = why or str(error)
    if not kinds:
        raise UserError(f"none of {plural(len(dataset), 'episode')} can be read: {why}")
    acting = [kind for kind in kinds if kind.action == dataset.action_width]
    return max(acting or kinds, key=kinds.count)


def _write(job: ShardJob, runs: list[Segment], workers: int) -> int:
    """Writes the shards that are not there yet, and tells how many were."""
    todo = [run for run in runs if not _there(job, run)]
    missing = {run.number for run in todo}
    done = {run.number: 0 if run.number in missing else run.frames for run in runs}
    with progress_bar(
        total=sum(run.frames for run in runs), initial=sum(done.values()), unit="frame", desc="convert"
    ) as bar:

        def tell(run: Segment, frames: int) -> None:
            bar.update(frames - done[run.number])
            done[run.number] = frames

        convert_runs(job, todo, workers, tell)
    return len(runs) - len(todo)


def _there(job: ShardJob, run: Segment) -> bool:
    shard = shard_folder(job, run)
    # Under --strict, one that lacks episodes is made again, which says what is wrong with them.
    return shard.exists() and not (job.source.reading.strict and Report.load(shard).skipped)


def _finish(dataset: Dataset, job: ShardJob, runs: list[Segment], whole: Path) -> Outcome:
    shards = [Shard.load(shard_folder(job, run)) for run in runs]
    reports = [Report.load(shard.folder) for shard in shards]
    left_out = {index: why for report in reports for index, why in report.skipped.items()}
    if not any(shard.entries for shard in shards):
        first = next(iter(left_out.values()))
        raise UserError(f"none of {plural(len(dataset), 'episode')} can be read: {first}")
    notes = _told(dataset, left_out)
    with name_path_in_errors(whole):
        shutil.rmtree(whole, ignore_errors=True)
        assemble(shards, About(dataset.fps, dataset.action_layout, dataset.state_layout, kept(notes)), whole)
    written = open_dataset(whole)
    _compare(dataset, [index for index in range(len(dataset)) if index not in left_out], written)
    measured = {view: [value for report in reports for value in report.quality.get(view, [])] for view in dataset.views}
    return Outcome(
        len(written),
        sum(written.length(index) for index in range(len(written))),
        dataset.fps,
        {view: (float(np.mean(values)), min(values)) for view, values in measured.items()},
        len(measured[dataset.views[0]]),
        written.action_width is not None,
        notes,
    )


def _told(dataset: Dataset, left_out: Mapping[int, str]) -> tuple[Note, ...]:
    """What the reader said, and which other episodes are left out, and why."""
    gone, notes = {dataset.number(index) for index in left_out}, list[Note]()
    unlike = "a data set has actions throughout or not at all; make one of these, too, and train on both with a mixture"
    for note in dataset.notes:
        # Here an episode without actions is lost, or there are no others.
        lost = note.kind == "video only" and gone.issuperset(note.episodes)
        notes.append(Note("left out", f"{note.text}; {unlike}", note.episodes) if lost else note)
    said = {number for note in notes if note.kind == "left out" for number in note.episodes}
    rest = ((dataset.number(index), why) for index, why in left_out.items())
    return (*notes, *merged(Note("left out", why, (number,)) for number, why in rest if number not in said))


def _compare(dataset: Dataset, episodes: list[int], written: LeRobot) -> None:
    """Reads back everything but the frames, which `convert_shard` has read back."""
    if len(written) != len(episodes):
        raise UserError(f"{written.path}: {len(written)} episodes came back of {len(episodes)}")
    for number, index in enumerate(progress_bar(episodes, desc="read back", unit="episode")):
        one, other = dataset.episode(index, ()), written.episode(number, ())
        told = [(e.instruction, e.task, e.success, e.seed, e.labelled_by, e.confidence) for e in (one, other)]
        values = [[None if v is None else v.tobytes() for v in (e.actions, e.states)] for e in (one, other)]
        if told[0] != told[1] or values[0] != values[1] or dataset.length(index) != written.length(number):
            raise UserError(
                f"{written.path}: episode {number} came back other than it was written; does the disk fail?"
            )
    if not math.isclose(written.fps, dataset.fps) or written.views != dataset.views:
        raise UserError(f"{written.path}: its description came back other than it was written")
