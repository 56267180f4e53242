"""Runs a trained policy in a world and counts how often it succeeds."""

from dataclasses import dataclass
from pathlib import Path

from videopolicy import registry
from videopolicy.cli._threads import choose_threads
from videopolicy.policies.video import Precision
from videopolicy.rollout.runner import Settings, evaluate
from videopolicy.rollout.statistics import summary_line, table


@dataclass(frozen=True)
class Command:
    """Run a trained policy in a world and count how often it succeeds.

    Episodes begin in states that no recording of demonstrations begins in. An interrupted run goes on where it
    stopped: give the same command again.

    Example: videopolicy evaluate --checkpoint runs/button/checkpoint --task button-press-topdown-v3
    """

    checkpoint: Path
    """The checkpoint folder that training wrote."""
    task: tuple[str, ...]
    """One or more tasks of the world."""
    world: str = "metaworld"
    """The world to act in."""
    episodes: int = 20
    """Episodes of each task."""
    out: Path | None = None
    """Where results and recordings go; by default `evaluation` beside the checkpoint."""
    workers: int = 2
    """Processes that play episodes at a time; the results do not depend on it."""
    execute: int | None = None
    """How many actions of each plan are executed before looking again; by default the checkpoint's own."""
    steps: int | None = None
    """Sampling steps of a plan; by default the checkpoint's own."""
    sampler: str | None = None
    """How plans are sampled; by default the checkpoint's own."""
    precision: Precision = "float32"
    """Of the weights in memory; bfloat16 takes half of it."""
    offload: bool = False
    """Keep the model in main memory and fetch it to the GPU layer by layer: slow, but it fits a small GPU."""
    seed: int = 0
    """Seeds the noise of the plans, not the worlds."""
    record: int = 6
    """Record the first so many episodes of each task, and every failure, with what the policy imagined; 0: none."""

    def run(self) -> None:
        """Evaluates, then prints a table and one line with the success rate and its 95 % interval."""
        print(self.measure())

    def measure(self) -> str:
        """Evaluates and prints the table; returns the line."""
        choose_threads()
        how = {"sampler": self.sampler, "steps": self.steps, "precision": self.precision, "offload": self.offload}
        planner = registry.build("policies", "video", self.checkpoint, **how)
        if unseen := [task for task in self.task if planner.tasks and task not in planner.tasks]:
            print(f"note: the checkpoint was trained on {', '.join(planner.tasks)}, not on {', '.join(unseen)}")
        settings = Settings(
            world=self.world,
            tasks=self.task,
            episodes=self.episodes,
            execute=planner.execute if self.execute is None else self.execute,
            seed=self.seed,
            record=self.record,
            checkpoint=self.checkpoint,
            sampler=planner.sampling.sampler,
            steps=planner.sampling.steps,
            precision=self.precision,
        )
        out = self.out or self.checkpoint.parent / "evaluation"
        results = evaluate(planner, settings, out, workers=self.workers)
        print(table(results.rows))
        return summary_line(results.successes, len(results.rows))
