"""Runs a trained policy in an env and counts how often it succeeds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from videopolicy import registry
from videopolicy.cli._threads import choose_threads
from videopolicy.errors import UserError
from videopolicy.policies.checkpoint import Precision
from videopolicy.rollout.protocols import Protocol, load
from videopolicy.rollout.results import Result
from videopolicy.rollout.runner import TIMEOUT, Settings, evaluate
from videopolicy.rollout.statistics import mean_lines, odd_endings, summary_line, table
from videopolicy.rollout.transport import ray as cluster
from videopolicy.rollout.transport.processes import ProcessSite

EPISODES = 20
ENV = "metaworld"


@dataclass(frozen=True)
class Command:
    """Run a trained policy in an env and count how often it succeeds.

    Episodes begin in states that no recording of demonstrations begins in. An interrupted run goes on where it
    stopped: give the same command again.

    Example: videopolicy evaluate --checkpoint runs/button/checkpoint --task button-press-topdown-v3

    A whole benchmark: videopolicy evaluate --checkpoint runs/ten/checkpoint --protocol mt10
    """

    checkpoint: Path
    """The checkpoint folder that training wrote."""
    task: tuple[str, ...] = ()
    """One or more tasks of the env."""
    protocol: str | None = None
    """Instead of tasks, a benchmark (mt10, libero10, ...) or a .toml file that describes one."""
    env: str | None = None
    """The env to act in; metaworld if neither this nor a protocol is given."""
    episodes: int | None = None
    """Episodes of each task; 20, or the protocol's number, which this may lower."""
    out: Path | None = None
    """Where results and recordings go; by default `evaluation` beside the checkpoint."""
    workers: int = 2
    """Processes that play episodes at a time; the results do not depend on it."""
    timeout: float = TIMEOUT
    """Seconds after which a process that says nothing is given up; its episode is begun again once."""
    ray: str | None = None
    """Play on the machines of a Ray cluster: its address, or `local` to start one here. It needs the extra `ray`."""
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
    """Seeds the noise of the plans, not the envs."""
    record: int = 6
    """Record the first so many episodes of each task, and every failure, with what the policy imagined; 0: none."""

    def run(self) -> None:
        """Evaluates, then prints a table and one line with the success rate and its 95 % interval."""
        print(self.measure())

    def measure(self) -> str:
        """Evaluates and prints the table; returns the line.

        Raises:
            UserError: see `videopolicy.rollout.runner.evaluate`; or the options contradict the protocol.
        """
        choose_threads()
        protocol = self._protocol()
        with self._policy() as (planner, place):
            settings = self._settings(planner, protocol)
            if unseen := [task for task in settings.tasks if planner.tasks and task not in planner.tasks]:
                print(f"note: the checkpoint was trained on {', '.join(planner.tasks)}, not on {', '.join(unseen)}")
            out = self.out or self.checkpoint.parent / "evaluation"
            results = evaluate(planner, settings, out, workers=self.workers, timeout=self.timeout, place=place)
        # Episodes end in another order each time.
        rows = sorted(results.rows, key=lambda row: (settings.tasks.index(row.task), row.episode))
        *lines, last = _closing(rows, protocol)
        print("\n".join([table(rows, protocol.references if protocol else None), *lines]))
        return last

    def _protocol(self) -> Protocol | None:
        """The protocol, if one is asked for and nothing else contradicts it."""
        if self.protocol is None:
            if not self.task:
                raise UserError("nothing to evaluate: give --task, or a --protocol")
            return None
        if self.task or self.env:
            raise UserError("a --protocol names its env and its tasks itself: leave out --env and --task")
        protocol = load(self.protocol)
        for option, own, given in (
            ("episodes", protocol.episodes, self.episodes),
            ("execute", protocol.execute, self.execute),
        ):
            if own and given and (given > own if option == "episodes" else given != own):
                raise UserError(f"--{option} is {given}, but protocol {protocol.name} says {own}")
        return protocol

    def _settings(self, planner: Any, protocol: Protocol | None) -> Settings:
        execute = self.execute if self.execute is not None else protocol and protocol.execute
        return Settings(
            env=protocol.env if protocol else self.env or ENV,
            tasks=tuple(task.name for task in protocol.tasks) if protocol else self.task,
            episodes=self.episodes if self.episodes is not None else protocol.episodes if protocol else EPISODES,
            execute=planner.execute if execute is None else execute,
            seed=self.seed,
            record=self.record,
            checkpoint=self.checkpoint,
            sampler=planner.sampling.sampler,
            steps=planner.sampling.steps,
            precision=self.precision,
            protocol=protocol,
        )

    @contextmanager
    def _policy(self) -> Iterator[tuple[Any, Callable[..., Any]]]:
        """The policy, and where envs are played."""
        how = {"sampler": self.sampler, "steps": self.steps, "precision": self.precision, "offload": self.offload}
        build = partial(registry.build, "policies", "checkpoint", self.checkpoint, **how)
        if self.ray is None:
            yield build(), ProcessSite
        else:
            with cluster.cluster(self.ray, self.workers):
                yield cluster.planner(build), cluster.RaySite


def _closing(rows: list[Result], protocol: Protocol | None) -> list[str]:
    """What is said under the table; the last line has the success rate."""
    odd = odd_endings(rows)
    lines = [odd] if odd else []
    if protocol is None:
        return [*lines, summary_line(sum(row.success for row in rows), len(rows))]
    played = len(rows) // len(protocol.tasks)
    if played < protocol.episodes:
        lines.append(f"{played} of the protocol's {protocol.episodes} episodes of each task")
    if protocol.source:
        lines.append(f"reference: {protocol.source}")
    return [*lines, *mean_lines(rows, protocol.mean)]
