"""Record an env's scripted expert as a data set of demonstrations."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from videopolicy import registry
from videopolicy.datasets.card import Card
from videopolicy.datasets.lerobot.writer import Writer, refuse_existing
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, prepare
from videopolicy.errors import UserError, check_range
from videopolicy.ownership import owned
from videopolicy.processes import check_memory, check_workers
from videopolicy.processors import processors
from videopolicy.progress import progress_bar
from videopolicy.rollout.demonstrate import DemonstrationJob, record
from videopolicy.types import Episode

# So many failures in a row mean that the expert will not get there.
HOPELESS = 30
LIMITS = {
    "episodes": (1, EVALUATION_SEED_OFFSET),
    "steps": (1, 10**6),
    "seed": (0, EVALUATION_SEED_OFFSET),
    "noise": (0, 10**6),
}


@dataclass(frozen=True)
class Command:
    """Records demonstrations: the env's scripted expert acts, disturbed a little, in parallel processes.

    Only successes are kept; a failure is replaced by the next seed. The recorded action is the expert's own, the
    executed one has noise on it, so that recovery is seen. The data set is a LeRobotDataset v3.0, and its README.md
    says how it was made.

    Example: videopolicy record --task button-press-topdown-v3 --views corner2 --out data/button

    Attributes:
        task: Tasks, one or more, as the env names them.
        out: Folder of the data set; must not exist.
        episodes: Successful episodes of each task.
        views: Cameras; the env's own choice unless given (metaworld: corner2 corner3 gripperPOV).
        size: Pixels on each side of an image.
        env: Which simulator.
        noise: Standard deviation of the Gaussian noise on executed actions.
        steps: Control steps of an episode, at least; it goes on until 10 steps after success.
        seed: Seed of each task's first episode; the next ones count up. Those of evaluation begin at 1000000.
        workers: Processes; one for each core unless given.
    """

    task: tuple[str, ...]
    out: Path
    episodes: int = 50
    views: tuple[str, ...] = ()
    size: int = 64
    env: str = "metaworld"
    noise: float = 0.1
    steps: int = 75
    seed: int = 0
    workers: int = field(default_factory=processors)

    def run(self) -> None:
        """Records, and says what was written where.

        Raises:
            UserError: a bad setting, a target that exists, a full disk, or an expert that keeps failing.
        """
        self._check()
        with owned(self.out, "record"):
            # Another process may have made it before this one owned it.
            refuse_existing(self.out)
            tried = self._write()
        kept = self.episodes * len(self.task)
        share = f"the expert succeeded in {kept} of {tried} ({kept / tried:.0%})"
        print(f"wrote {kept} episodes of {', '.join(self.task)} to {self.out}; {share}")

    def _write(self) -> int:
        """Writes the data set, and tells how many episodes were tried for it."""
        tried = 0
        seeds: dict[str, list[int]] = {task: [] for task in self.task}

        def successes() -> Generator[Episode, None, None]:
            nonlocal tried
            for task in self.task:
                for episode in self._episodes(task):
                    tried += 1
                    if episode.success:
                        assert episode.seed is not None, "what is recorded here was begun with a seed"
                        seeds[task].append(episode.seed)
                        yield episode

        with closing(successes()) as episodes:
            first = next(episodes)
            actions, states = self._layouts()
            with Writer(self.out, first.fps, tuple(first.views), action_layout=actions, state_layout=states) as writer:
                for episode in chain([first], episodes):
                    writer.add(episode)
                writer.card = self._card(first, seeds, tried, actions, states)
        return tried

    def _card(self, first: Episode, seeds: dict[str, list[int]], tried: int, actions: str, states: str) -> str:
        kept = tuple(tuple(seeds[task]) for task in self.task)
        views = tuple(first.views)
        command = ["videopolicy", "record", "--env", self.env, "--task", *self.task, "--views", *views]
        for name in ("episodes", "size", "noise", "steps", "seed", "out"):
            command += [f"--{name}", str(getattr(self, name))]
        card = Card(
            *(self.env, self.task, kept, tried, self.noise, views, self.size, first.fps, actions, states),
            tuple(command),
        )
        return card.text()

    def _episodes(self, task: str) -> Generator[Episode, None, None]:
        what = DemonstrationJob(self.env, task, self.views, self.size, self.noise, self.steps)
        kept = failed = 0
        with (
            closing(record(what, self.seed, self.workers)) as episodes,
            progress_bar(total=self.episodes, desc=task) as bar,
        ):
            for episode in episodes:
                yield episode
                kept, failed = kept + bool(episode.success), 0 if episode.success else failed + 1
                bar.update(bool(episode.success))
                bar.set_postfix(failed=episode.seed + 1 - self.seed - kept if episode.seed is not None else 0)
                if kept == self.episodes:
                    return
                if failed == HOPELESS:
                    raise UserError(f"{task}: the expert failed {HOPELESS} times in a row; less --noise may help")

    def _layouts(self) -> tuple[str, str]:
        env = registry.build("envs", self.env, self.task[0])
        env.close()
        return env.action_layout, env.state_layout

    def _check(self) -> None:
        for name, (least, most) in LIMITS.items():
            check_range(f"--{name}", getattr(self, name), least, most)
        check_workers(self.workers)
        if self.seed + self.episodes > EVALUATION_SEED_OFFSET:
            raise UserError(
                f"--seed {self.seed} and {self.episodes} --episodes lead to seeds from {EVALUATION_SEED_OFFSET} on, "
                "which are kept for evaluation; begin with a lower one"
            )
        if not self.task or len(set(self.task)) < len(self.task):
            raise UserError(f"--task is {' '.join(self.task) or 'empty'}; name at least one task, and each one once")
        refuse_existing(self.out)
        if renderer := prepare(self.env, self.task, self.views, self.size):
            print("\n".join(renderer.lines()), flush=True)
        views = self.views or registry.module("envs", self.env).VIEWS
        episode = self.steps * len(views) * 3 * self.size**2
        check_memory(f"an episode of {self.steps} --steps at --size {self.size}", episode)
