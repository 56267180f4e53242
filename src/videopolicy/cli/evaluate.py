"""Runs a policy in an env and counts how often it succeeds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import tyro

from videopolicy import registry
from videopolicy.cli._threads import choose_threads
from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError, check_range
from videopolicy.ownership import owned
from videopolicy.policies.base import Policy, PolicySpec
from videopolicy.policies.checkpoint import Precision
from videopolicy.processes import check_workers
from videopolicy.rollout.protocols import MOST_EPISODES, Protocol, load
from videopolicy.rollout.results import Result
from videopolicy.rollout.runner import MOST_SECONDS, TIMEOUT, evaluate
from videopolicy.rollout.settings import MOST_SEED, Settings
from videopolicy.rollout.statistics import mean_lines, odd_endings, summary_line, table
from videopolicy.rollout.transport import ray as cluster
from videopolicy.rollout.transport.processes import ProcessSite

EPISODES = 20
ENV = "metaworld"
# Of which a policy takes those that its `make` names.
OPTIONS = (
    "mode",
    "sampler",
    "steps",
    "video_steps",
    "video_until",
    "reuse",
    "warm_start",
    "inpaint",
    "style",
    "token",
    "precision",
    "offload",
    "compile",
)


@dataclass(frozen=True)
class Command:
    """Run a policy in an env and count how often it succeeds.

    Episodes begin in states that no recording of demonstrations begins in. An interrupted run goes on where it
    stopped: give the same command again.

    Example: videopolicy evaluate --checkpoint runs/button/checkpoint --task button-press-topdown-v3

    A whole benchmark: videopolicy evaluate --checkpoint runs/ten/checkpoint --protocol mt10

    A server's policy: videopolicy evaluate --policy remote:ws://127.0.0.1:8000 --protocol mt10 --out runs/theirs

    Chance level: videopolicy evaluate --policy random:4 --task button-press-topdown-v3 --out runs/chance
    """

    checkpoint: Path | None = None
    """The checkpoint folder that training wrote; the same as --policy checkpoint:FOLDER."""
    policy: Annotated[str | None, tyro.conf.arg(metavar="NAME[:TARGET]")] = None
    """Instead of a checkpoint, any policy, and what it acts by: random:WIDTH draws its actions at random."""
    task: tuple[str, ...] = ()
    """One or more tasks of the env."""
    protocol: str | None = None
    """Instead of tasks, a benchmark (mt10, libero10, ...) or a .toml file that describes one."""
    env: str | None = None
    """The env to act in; metaworld if neither this nor a protocol is given."""
    episodes: int | None = limited(None, 1, MOST_EPISODES)
    """Episodes of each task; 20, or the protocol's number, which this may lower."""
    out: Path | None = None
    """Where results and recordings go; by default `evaluation` beside the checkpoint, if it is one."""
    workers: int = 2
    """Processes that play episodes at a time; the results do not depend on it."""
    timeout: float = limited(TIMEOUT, 1, MOST_SECONDS)
    """Seconds after which a process that says nothing is given up; its episode is begun again once."""
    ray: str | None = None
    """Play on the machines of a Ray cluster: its address, or `local` to start one here. It needs the extra `ray`."""
    execute: int | None = limited(None, 1, MOST_EPISODES)
    """Control steps from one request for a plan to the next; by default the policy's own."""
    executor: str = "chunked"
    """Which actions are executed: chunked, those of the newest plan; temporal_ensemble, the mean of all plans."""
    latency: int = limited(0, 0, MOST_EPISODES)
    """Simulated control steps from a request for a plan to its arrival; the robot goes on meanwhile."""
    mode: str | None = None
    """Checkpoints: exact, the checkpoint's own way to sample a plan, or another that `videopolicy tune` gave it."""
    steps: int | None = None
    """Checkpoints: sampling steps of a plan; by default the mode's own."""
    video_steps: int | None = None
    """Checkpoints: fewer sampling steps for the video than for the actions; by default the mode's own."""
    video_until: float | None = None
    """Checkpoints: sampler cascade denoises the video to this noise level first; by default the mode's own."""
    reuse: int | None = None
    """Checkpoints: run the video model's deep blocks at the first of every so many steps; by default the mode's own."""
    warm_start: float | None = None
    """Checkpoints: go on from the plan before, at this noise level; by default the mode's own, or from noise."""
    inpaint: float | None = None
    """Checkpoints: guide each plan to go on from the one before, by at most this weight, such as 5; for --latency."""
    sampler: str | None = None
    """Checkpoints: how plans are sampled; by default the mode's own."""
    precision: Precision | None = None
    """Checkpoints: of the weights in memory, float32 by default; bfloat16 takes half of it."""
    offload: bool = False
    """Checkpoints: keep the model in main memory, fetch it to the GPU layer by layer: slow, but it fits a small GPU."""
    compile: bool = False
    """Checkpoints: compile the video model; on a GPU, a plan is one CUDA graph. Minutes at the start, faster plans."""
    style: str | None = None
    """Policy remote: what the server is sent, native (ours, the default) or libero."""
    token: str | None = None
    """Policy remote: what the server asks for."""
    seed: int = limited(0, 0, MOST_SEED)
    """Seeds the noise of the plans, not the envs."""
    record: int = limited(6, 0, MOST_EPISODES)
    """Record the first so many episodes of each task, and every failure, with what the policy imagined; 0: none."""

    def run(self) -> None:
        """Evaluates, then prints a table and one line with the success rate and its 95 % interval."""
        print(self.measure())

    def measure(self) -> str:
        """Evaluates and prints the table; returns the line.

        Raises:
            UserError: see `videopolicy.rollout.runner.evaluate`; or the options contradict the protocol or the policy.
        """
        self._check()
        choose_threads()
        protocol = self._protocol()
        name, target = self._chosen()
        out = self._out(name, target)
        reads = [target] if name == "checkpoint" else []
        with owned(out, "evaluate", reads), self._open(name, target) as (policy, place):
            settings = self._settings(policy.spec, name, target, protocol)
            for note in _notes(policy.spec, settings):
                print(f"note: {note}")
            results = evaluate(policy, settings, out, workers=self.workers, timeout=self.timeout, place=place)
        # Episodes end in another order each time.
        rows = sorted(results.rows, key=lambda row: (settings.tasks.index(row.task), row.episode))
        *lines, last = _closing(rows, protocol)
        print("\n".join([table(rows, protocol.references if protocol else None), *lines]))
        return last

    def _check(self) -> None:
        """What needs no policy and no simulator to be seen."""
        check_limits(self)
        if self.ray is None:
            check_workers(self.workers)
        else:
            check_range("--workers", self.workers, 1, MOST_EPISODES)
        registry.entry("executors", self.executor)

    def _chosen(self) -> tuple[str, str]:
        """The policy's plug-in, and its target."""
        if (self.checkpoint is None) == (self.policy is None):
            raise UserError("give one of --checkpoint FOLDER and --policy NAME[:TARGET]")
        name, _, target = (self.policy or f"checkpoint:{self.checkpoint}").partition(":")
        return name, target

    def _out(self, name: str, target: str) -> Path:
        if self.out is None and name != "checkpoint":
            raise UserError(f"--policy {name} has no folder of its own: say with --out where the results go")
        return self.out or Path(target).parent / "evaluation"

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

    def _settings(self, spec: PolicySpec, name: str, target: str, protocol: Protocol | None) -> Settings:
        execute = self.execute if self.execute is not None else protocol and protocol.execute
        return Settings(
            env=protocol.env if protocol else self.env or ENV,
            tasks=tuple(task.name for task in protocol.tasks) if protocol else self.task,
            episodes=self.episodes if self.episodes is not None else protocol.episodes if protocol else EPISODES,
            execute=spec.execute if execute is None else execute,
            executor=self.executor,
            latency=self.latency,
            seed=self.seed,
            record=self.record,
            policy=name,
            target=target,
            protocol=protocol,
        )

    @contextmanager
    def _open(self, name: str, target: str) -> Iterator[tuple[Policy, Callable[..., Any]]]:
        """The policy, and where envs are played."""
        make = registry.entry("policies", name)
        options = {option: getattr(self, option) for option in OPTIONS}
        # Not by truth: 0 steps are no default, but a mistake.
        options = {option: value for option, value in options.items() if value is not None and value is not False}
        for option in options:
            if option not in signature(make).parameters:
                raise UserError(f"--{option.replace('_', '-')} is no option of policy {name!r}; leave it out")
        build = partial(registry.build, "policies", name, target, **options)
        if self.ray is None:
            yield build(), ProcessSite
        else:
            with cluster.cluster(self.ray, self.workers):
                yield cluster.place_policy(build), cluster.RaySite


def _notes(spec: PolicySpec, settings: Settings) -> Iterator[str]:
    """What the user should know before the numbers come."""
    yield from spec.notes
    if unseen := [task for task in settings.tasks if spec.tasks and task not in spec.tasks]:
        yield f"the policy was trained on {', '.join(spec.tasks)}, not on {', '.join(unseen)}"


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
