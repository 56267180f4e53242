"""How often ways to draw a plan succeed, on the same starts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.rollout.comparison import PairedOutcomes, pair, pooled
from videopolicy.rollout.results import Result
from videopolicy.rollout.runner import check, evaluate
from videopolicy.rollout.sequential import Standing, standing
from videopolicy.rollout.settings import Settings

# Starts of each task that are played before the first look; each look has twice as many as the one before it.
FIRST_LOOK = 10


@dataclass(frozen=True)
class Starts:
    """Where success is measured. Each way has an evaluation of its own, which can be compared and gone on with.

    Attributes:
        env: the env's name.
        tasks: the env's names of them.
        checkpoint: the folder of the policy.
        out: the folder of the evaluations.
    """

    env: str
    tasks: tuple[str, ...]
    checkpoint: Path
    out: Path

    def check(self, policy: CheckpointPolicy, episodes: int) -> None:
        """Refuses what cannot be played, before anything is measured; says what renders.

        Raises:
            UserError: see `videopolicy.rollout.runner.check`.
        """
        if renderer := check(policy.spec, self._settings(policy, episodes)):
            print("\n".join(renderer.lines()), flush=True)

    def play(self, policy: CheckpointPolicy, name: str, episodes: int, bar: tqdm) -> list[Result]:
        """The results of the first so many starts of each task; those that were played before are not played again.

        Args:
            policy: what acts.
            name: of the way, which its folder is called by.
            episodes: of each task.
            bar: counts them.

        Raises:
            UserError: see `videopolicy.rollout.runner.evaluate`.
        """
        folder = self.out / re.sub(r"[^\w.]+", "-", name)
        rows = evaluate(policy, self._settings(policy, episodes), folder, bar=bar).rows
        return [row for row in rows if row.episode < episodes]

    def compare(
        self, first: tuple[CheckpointPolicy, str], second: tuple[CheckpointPolicy, str], episodes: int, bar: tqdm
    ) -> tuple[PairedOutcomes, Standing]:
        """Whether the second way is worse, on no more starts than it takes to tell.

        Args:
            first: the policy to compare with, and its name.
            second: another, and its name.
            episodes: of each task, at most.
            bar: counts them.
        """
        for looked in rounds(episodes):
            results = [self.play(policy, name, looked, bar) for policy, name in (first, second)]
            pairs = pooled(list(pair(*results).values()))
            found = standing(pairs)
            if found is not Standing.OPEN:
                break
        return pairs, found

    def _settings(self, policy: CheckpointPolicy, episodes: int) -> Settings:
        return Settings(
            self.env,
            self.tasks,
            episodes=episodes,
            execute=policy.spec.execute,
            record=0,
            policy="checkpoint",
            target=str(self.checkpoint),
        )


@contextmanager
def open_starts(
    env: str | None, tasks: tuple[str, ...], checkpoint: Path, out: Path | None, policy: CheckpointPolicy, episodes: int
) -> Iterator[Starts | None]:
    """Where success is measured, checked; None without an env.

    Args:
        env: the env's name, or None.
        tasks: the env's names of them.
        checkpoint: the folder of the policy.
        out: where the evaluations are kept; None to keep none.
        policy: what acts.
        episodes: of each task, at most.

    Raises:
        UserError: see `Starts.check`.
    """
    if env is None:
        yield None
        return
    with nullcontext(out) if out else TemporaryDirectory() as folder:
        starts = Starts(env, tasks, checkpoint, Path(folder))
        starts.check(policy, episodes)
        yield starts


def rounds(episodes: int) -> Iterator[int]:
    """Numbers of episodes after which to look, the last of them all."""
    looked = FIRST_LOOK
    while looked < episodes:
        yield looked
        looked *= 2
    yield episodes
