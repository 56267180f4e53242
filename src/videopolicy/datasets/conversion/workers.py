"""Converts shards in other processes. One that dies is an error that says what it was doing."""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property, partial

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.conversion.shard import Segment, ShardJob, write_shard
from videopolicy.processes import ordered_map


def convert_runs(job: ShardJob, runs: Sequence[Segment], workers: int, tell: Callable[[Segment, int], None]) -> None:
    """Writes the shards of these runs.

    Args:
        job: the conversion.
        runs: which shards.
        workers: processes; a single one is this.
        tell: called with a run and how many of its frames are done.

    Raises:
        UserError: an episode cannot be read, the disk is full, a process died.
        RuntimeError: a process failed, with its traceback.
    """
    write, workers = _ShardConverter(job), min(workers, len(runs))
    if workers <= 1:
        for run in runs:
            write(run, partial(tell, run))
        return
    # Nothing but the word that a shard is there comes back, so all may be begun.
    with closing(ordered_map(write, runs, workers, _lost, ahead=len(runs), tell=tell)) as done:
        for _ in done:
            pass


class _ShardConverter:
    """Writes one shard after the other, from a source that each process opens once."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job

    @cached_property
    def _dataset(self) -> Dataset:
        return self._job.source.open()[0]

    def __call__(self, run: Segment, tell: Callable[[int], None]) -> None:
        write_shard(self._dataset, self._job, run, tell)


def _lost(run: Segment, ending: str) -> str:
    return (
        f"the process that converted episodes {run.first} to {run.end - 1} died ({ending}), often for lack of memory; "
        "the same command goes on from there, perhaps with fewer --workers"
    )
