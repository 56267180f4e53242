"""Is the video at fault, or the head? The head acts on the true future, beside the one that it imagines.

The true future is what the env's expert does next, from wherever the policy has come to. A head that succeeds with it
and fails with the imagined one was let down by the video; one that fails with both would fail beside any video model.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from videopolicy.datasets.base import Dataset
from videopolicy.diagnosis.foresight import has_expert, play
from videopolicy.diagnosis.given import Informed
from videopolicy.diagnosis.open_loop import OpenLoop, compare_readings
from videopolicy.errors import UserError
from videopolicy.policies import checkpoint
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.progress import progress_bar
from videopolicy.rollout.comparison import PairedOutcomes, pair, pooled
from videopolicy.rollout.fingerprint import fingerprint
from videopolicy.rollout.results import HORIZON, Result
from videopolicy.rollout.settings import Recorded
from videopolicy.rollout.workers import Setup


@dataclass(frozen=True)
class Oracle:
    """What was found.

    Attributes:
        shown: how noisy the given future is, in words.
        open_loop: on recorded steps.
        rows: the episodes that were played with the true future in sight; none if there is no expert.
        pairs: task -> the same starts with the imagined future (first) and the true one (second).
        notes: what a reader must know.
    """

    shown: str
    open_loop: OpenLoop
    rows: tuple[Result, ...]
    pairs: Mapping[str, PairedOutcomes]
    notes: tuple[str, ...]

    @property
    def pooled(self) -> PairedOutcomes | None:
        """All tasks together; None if nothing was played."""
        return pooled(list(self.pairs.values())) if self.pairs else None

    def to_json(self) -> dict[str, Any]:
        """Everything, in JSON types."""
        return {
            "notes": list(self.notes),
            "future_is_shown": self.shown,
            "recorded_steps": self.open_loop.to_json(),
            "success": {name: _counts(pairs) for name, pairs in self.pairs.items()},
            "success_of_all_tasks": self.pooled and _counts(self.pooled),
            "episodes_with_the_true_future": [asdict(row) for row in self.rows],
        }


def _counts(pairs: PairedOutcomes) -> dict[str, Any]:
    low, high = pairs.interval()
    return {
        "episodes": pairs.n,
        "imagined": pairs.both + pairs.first,
        "true": pairs.both + pairs.second,
        "only_imagined": pairs.first,
        "only_true": pairs.second,
        "difference": pairs.difference,
        "low": low,
        "high": high,
        "p": pairs.p,
    }


def open_evaluated(settings: Recorded) -> CheckpointPolicy:
    """The policy of an evaluation, as it acted there.

    Raises:
        UserError: it was no checkpoint, or that is gone or another one by now, or it imagines nothing.
    """
    folder = settings.checkpoint
    if folder is None:
        raise UserError(f"policy {settings.policy!r} is no checkpoint, so its head cannot be shown a future")
    if not folder.is_dir():
        raise UserError(f"the evaluation's checkpoint {folder} is not there; run this in the folder of the evaluation")
    if settings.checkpoint_sha256 not in (None, fingerprint(folder)):
        raise UserError(f"{folder} has changed since the evaluation; evaluate it again, into another --out")
    policy = checkpoint.make(folder, **settings.sampling)
    if policy.spec.identity != settings.identity:
        raise UserError(f"{folder}: mode {settings.sampling.get('mode')!r} has changed since; evaluate it again")
    return policy


def consult(settings: Recorded, results: Sequence[Result], dataset: Dataset, episodes: int) -> Oracle:
    """Shows the head of an evaluation's policy the true future: on recorded steps, and in the env if it has an expert.

    Args:
        settings: of the evaluation.
        results: of the evaluation.
        dataset: demonstrations with actions.
        episodes: of each task, played again from the same starts; 0 plays none.

    Raises:
        UserError: what `open_evaluated` and `compare_readings` refuse, or a policy without video.
    """
    policy = open_evaluated(settings)
    informed = Informed(policy)
    read = compare_readings(policy, informed, dataset, settings.execute)
    rows, notes = _played(settings, results, informed, episodes) if episodes else ([], [])
    pairs = pair([row for row in results if row.episode < episodes], rows) if rows else {}
    return Oracle(informed.shown.told, read, tuple(rows), pairs, tuple(notes))


def _played(
    settings: Recorded, results: Sequence[Result], informed: Informed, episodes: int
) -> tuple[list[Result], list[str]]:
    """The first episodes of each task with the true future in sight, and what must be said of them."""
    spec = informed.spec
    setup = Setup(settings.env, spec.views, spec.size, settings.executor, settings.execute, settings.latency)
    ordered = sorted(results, key=lambda row: (settings.tasks.index(row.task), row.episode))
    chosen = {task: [row for row in ordered if row.task == task and row.episode < episodes] for task in settings.tasks}
    rows, notes = [], []
    with progress_bar(total=sum(map(len, chosen.values())), desc="true future", unit="episode") as bar:
        for task, before in chosen.items():
            if not before:
                continue
            with closing(setup.open_env(task)) as env:
                # A protocol may have set another horizon than the env's, and every failure lasts to the end.
                env.horizon = max((row.steps for row in results if _to_the_end(row, task)), default=env.horizon)
                if not has_expert(env):
                    notes.append(f"{task} has no expert to show the true future: it was not played")
                    continue
                for row in before:
                    rows.append(play(env, informed, setup, settings, row))
                    bar.update()
    return rows, notes


def _to_the_end(row: Result, task: str) -> bool:
    return row.task == task and row.ended == HORIZON
