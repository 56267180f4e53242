"""Converts one run of episodes into a shard, and reads it back to see what the videos lost."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.lerobot.shard import Shard, ShardSchema, ShardWriter
from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.media import KEY_FRAME_EVERY, Decoder
from videopolicy.similarity import CEILING, psnr
from videopolicy.types import Episode

# Frames of a view in memory at once; whole groups between key frames, or there would be more of these.
BLOCK = 2 * KEY_FRAME_EVERY
# Frames of a shard that are kept to be compared: at most so many, and of so many bytes.
_SAMPLES, _SAMPLED_BYTES = 64, 2**26
_REPORT = "convert.json"


@dataclass(frozen=True)
class Segment:
    """Consecutive episodes that become a shard.

    Attributes:
        number: the shard's place among all.
        first: the first episode.
        end: after the last one.
        frames: of all its episodes.
    """

    number: int
    first: int
    end: int
    frames: int


@dataclass(frozen=True)
class ShardJob:
    """What is the same for all shards of a conversion.

    Attributes:
        source: what is read.
        folder: where the shards go.
        kind: what all episodes must be.
        crf: the videos' quality, see `videopolicy.media.Encoder`.
    """

    source: ConversionSource
    folder: Path
    kind: ShardSchema
    crf: int


@dataclass(frozen=True)
class Report:
    """What became of a run.

    Attributes:
        skipped: episode -> why it was left out.
        quality: view -> PSNR of each compared frame against what was to be written, in dB, at most `CEILING`.
    """

    skipped: dict[int, str]
    quality: dict[str, list[float]]

    @classmethod
    def load(cls, shard: Path) -> "Report":
        """The report that lies beside a shard's files."""
        values = json.loads((shard / _REPORT).read_text(encoding="utf-8"))
        return cls({int(index): why for index, why in values["skipped"].items()}, values["quality"])


def shard_folder(job: ShardJob, run: Segment) -> Path:
    """Where a run's shard is, once it is complete."""
    return job.folder / f"{run.number:06d}"


def write_shard(dataset: Dataset, job: ShardJob, run: Segment, tell: Callable[[int], None]) -> None:
    """Converts a run; its folder appears whole or not at all.

    Args:
        dataset: the job's source, opened.
        job: the conversion.
        run: which episodes.
        tell: called with the number of frames done, now and then.

    Raises:
        UserError: an episode cannot be read or does not fit the others.
        OSError: the disk is full, and the like.
    """
    aside = job.folder / f"{run.number:06d}.{os.getpid()}.partial"
    skipped: dict[int, str] = {}
    try:
        with name_path_in_errors(job.folder):
            samples = _try(dataset, job, run, aside, skipped, tell)
            if samples is None:
                # Once more, without the damaged ones, all of which are known by now.
                samples = _try(dataset, job, run, aside, skipped, tell)
            assert samples is not None
            report = {"skipped": skipped, "quality": _compare(Shard.load(aside), samples)}
            (aside / _REPORT).write_text(json.dumps(report), encoding="utf-8")
            # One that lacks episodes may be there, from a conversion without --strict.
            shutil.rmtree(shard_folder(job, run), ignore_errors=True)
            aside.rename(shard_folder(job, run))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _try(
    dataset: Dataset, job: ShardJob, run: Segment, aside: Path, skipped: dict[int, str], tell: Callable[[int], None]
) -> "_Samples | None":
    """Writes the run but for the skipped episodes; None if one was damaged, which then are all known."""
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    samples = _Samples(run.frames, job.kind)
    with ShardWriter(aside, dataset.fps, tuple(job.kind.sizes), job.crf, job.kind) as writer:
        for index in range(run.first, run.end):
            if index in skipped:
                continue
            where = f"{dataset.path}: episode {dataset.number(index)}"
            try:
                writer.add(samples.of(_blocks(dataset, index, where), writer, tell), where)
            except UserError as error:
                if job.source.reading.strict:
                    line = str(error) if where in str(error) else f"{error} (episode {dataset.number(index)})"
                    raise UserError(f"{line}; without --strict, the other episodes are converted") from error
                skipped |= _damaged(dataset, range(index, run.end), writer)
                return None
    return samples


def _blocks(dataset: Dataset, index: int, where: str) -> Iterator[Episode]:
    length = dataset.length(index)
    if length == 0:
        raise UserError(f"{where} has no frames")
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        block = dataset.episode(index, None, start, stop)
        if len(block) != stop - start:
            raise UserError(f"{where}: {start + len(block)} frames instead of {length}")
        yield block


def _damaged(dataset: Dataset, episodes: Iterable[int], writer: ShardWriter) -> dict[int, str]:
    """Those of the episodes that cannot be written, and why."""
    found = {}
    for index in episodes:
        # Whoever tells it says which.
        where = f"{dataset.path}: an episode"
        try:
            for block in _blocks(dataset, index, where):
                writer.check(block, where)
        except UserError as error:
            found[index] = " ".join(str(error).splitlines())
    return found


class _Samples:
    """Every n-th frame of a shard, as it goes by on its way to the encoder."""

    def __init__(self, frames: int, kind: ShardSchema) -> None:
        size = 3 * sum(height * width for height, width in kind.sizes.values())
        self._every = max(1, ceil(frames / max(1, min(_SAMPLES, _SAMPLED_BYTES // size))))
        self.kept: dict[int, dict[str, np.ndarray]] = {}

    def of(self, blocks: Iterable[Episode], writer: ShardWriter, tell: Callable[[int], None]) -> Iterator[Episode]:
        for block in blocks:
            for step in range(-writer.frames % self._every, len(block), self._every):
                frames = {view: frames[step].copy() for view, frames in block.views.items()}
                self.kept[writer.frames + step] = frames
            yield block
            tell(writer.frames)

    def check_range(self, start: int, count: int) -> list[int]:
        """The frames that were kept of these."""
        return [at for at in range(start, start + count) if at in self.kept]


def _compare(shard: Shard, samples: _Samples) -> dict[str, list[float]]:
    """PSNR of the sampled frames; every frame is decoded once, to know that all are there."""
    frames = sum(entry.length for entry in shard.entries)
    quality: dict[str, list[float]] = {}
    for view in shard.kind.sizes if shard.kind and frames else ():
        file = shard.video(view)
        decoder = Decoder(file)
        try:
            if len(decoder) != frames:
                raise UserError(f"{file}: {len(decoder)} frames came back of {frames}; does the disk fail?")
            for start in range(0, frames, BLOCK):
                block = decoder.read(start, min(start + BLOCK, frames))
                pairs = [(block[at - start], samples.kept[at][view]) for at in samples.check_range(start, len(block))]
                quality.setdefault(view, []).extend(min(psnr(one, other), CEILING) for one, other in pairs)
        finally:
            decoder.close()
    return quality
