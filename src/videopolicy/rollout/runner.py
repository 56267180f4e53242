"""Joins a policy, an executor and an env: plays episodes in several processes, plans for all of them in this one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import fields
from math import isclose
from pathlib import Path
from typing import Any

from tqdm import tqdm

from videopolicy import registry
from videopolicy.actions.layout import Layout
from videopolicy.configs import check_limits
from videopolicy.datasets.base import SAME_RATE
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, Env, prepare
from videopolicy.envs.rendering import Renderer
from videopolicy.errors import UserError, check_range, unknown
from videopolicy.executors.base import check_timing
from videopolicy.ownership import owned
from videopolicy.policies import orientation
from videopolicy.policies.base import Policy, PolicySpec, derive_seed
from videopolicy.processes import end_if_unguarded
from videopolicy.progress import progress_bar, say
from videopolicy.rollout.fingerprint import fingerprint
from videopolicy.rollout.protocols import MOST_EPISODES
from videopolicy.rollout.recordings import sweep
from videopolicy.rollout.results import Results, open_results
from videopolicy.rollout.scheduler import Scheduler
from videopolicy.rollout.settings import Evaluated, Recorded, Settings
from videopolicy.rollout.transport.base import Site
from videopolicy.rollout.transport.processes import ProcessSite
from videopolicy.rollout.workers import EpisodeJob, Setup
from videopolicy.types import Observation, Plan

# Longer than any simulator here takes to load on a busy machine.
TIMEOUT = 300.0
MOST_SECONDS = 1e6
# Settings that another run of the same evaluation may change; which machine renders shows in single pixels at most.
FREE = {"episodes", "record", "renderer"}


def evaluate(
    policy: Policy,
    settings: Settings,
    out: Path,
    *,
    workers: int = 2,
    timeout: float = TIMEOUT,
    place: Callable[[Setup, int], Site[Any]] = ProcessSite,
    bar: tqdm | None = None,
) -> Results:
    """Plays every episode that `out` does not hold yet; what an episode gives does not depend on `workers`.

    Args:
        policy: plans for every episode, in this process.
        settings: what to measure.
        out: the folder of `settings.json`, `results.jsonl` and `recordings/`.
        workers: how many processes play episodes at a time.
        timeout: seconds without a word after which a process is given up; beginning an episode counts too.
        place: makes the site where so many of these processes run.
        bar: counts the episodes, in place of a bar of their own.

    Returns:
        Every episode, those of an earlier, interrupted run of the same settings included. One whose process died or
        hung twice is among them, as a failure.

    Raises:
        UserError: the policy does not fit the env, `out` holds something else or an evaluation with other settings,
            another process writes there, or every episode so far died. What has ended until then is kept, and the
            same call goes on from there.
    """
    end_if_unguarded()
    with owned(out, "evaluate", _reads(settings)):
        return _evaluate(policy, settings, out, workers, timeout, place, bar)


def _reads(settings: Settings) -> list[Path]:
    return [settings.checkpoint] if settings.checkpoint else []


def _evaluate(
    policy: Policy,
    settings: Settings,
    out: Path,
    workers: int,
    timeout: float,
    place: Callable[[Setup, int], Site[Any]],
    shared: tqdm | None,
) -> Results:
    check_range("--timeout", timeout, 1, MOST_SECONDS)
    # Too many workers are noticed here, before a simulator starts.
    site = place(_setup(policy.spec, settings), workers)
    renderer = check(policy.spec, settings)
    # Whoever shares a bar among several evaluations says it once.
    if renderer and shared is None:
        print("\n".join(renderer.lines()), flush=True)
    # A checkpoint is told by its contents, wherever it lies.
    where = {"target"} if settings.checkpoint else set()
    results = open_results(out, _recorded(policy.spec, settings, renderer), ignore=FREE | where)
    sweep(out / "recordings")
    jobs = [job for job in _jobs(settings, out) if (job.task, job.episode) not in results.ended]
    total = len(settings.tasks) * settings.episodes
    with _bar(total, len(results.rows)) if shared is None else nullcontext(shared) as bar:
        for result in Scheduler(_Comparing(policy), site, workers, timeout, lived=results.lived).play(jobs):
            results.append(result)
            bar.set_postfix_str(f"success {results.successes}/{len(results.rows)}", refresh=False)
            bar.update()
    return results


def _bar(total: int, ended: int) -> tqdm:
    return progress_bar(total=total, initial=ended, desc="evaluate", unit="episode")


class _Comparing:
    """A policy that says, once, which of the views that it is shown do not lie as they did in training.

    Args:
        policy: plans.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy, self._compared = policy, False

    @property
    def spec(self) -> PolicySpec:
        """See `Policy.spec`."""
        return self._policy.spec

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """See `Policy.plan`; the first observation of all is one that an episode begins with."""
        plans = self._policy.plan(observations, seeds, imagine)
        if not self._compared:
            self._compared = True
            for line in orientation.compare(self.spec.frames, observations[0].images):
                say(f"note: {line}")
        return plans


def _setup(spec: PolicySpec, settings: Settings) -> Setup:
    return Setup(settings.env, spec.views, spec.size, settings.executor, settings.execute, settings.latency)


def check(spec: PolicySpec, settings: Settings) -> Renderer | None:
    """Refuses, before any process starts, settings that make no sense and a policy that does not fit the env.

    Returns:
        What renders the env's images here; None if the env does that itself.

    Raises:
        UserError: says what does not fit.
    """
    module = registry.module("envs", settings.env)
    if not settings.tasks or len(set(settings.tasks)) < len(settings.tasks):
        raise UserError(f"tasks are {', '.join(settings.tasks) or 'none'}; name at least one, and each one once")
    check_limits(settings)
    check_range("--episodes", settings.episodes, 1, min(len(_seeds(settings, task)) for task in settings.tasks))
    check_starts(settings.env, settings.episodes)
    for task in settings.tasks:
        if task not in module.TASKS:
            raise unknown("task", task, module.TASKS)
    if lacking := [view for view in spec.views if view not in module.VIEWS]:
        raise UserError(
            f"the policy sees the views {', '.join(spec.views)}, but env {settings.env!r} has no "
            f"{', '.join(lacking)}; it has {', '.join(module.VIEWS)}"
        )
    registry.entry("executors", settings.executor)
    check_timing(settings.execute, settings.latency, spec.chunk)
    setup = _setup(spec, settings)
    renderer = prepare(setup.env, settings.tasks, setup.views, setup.size)
    env = setup.open_env(settings.tasks[0])
    env.close()
    _check_layouts(spec, env, settings.env)
    return renderer


def check_starts(env: str, episodes: int) -> None:
    """Refuses more episodes of a task than an env has starts: repeated ones are no further evidence.

    Raises:
        UserError: says how many there are.
    """
    starts = getattr(registry.module("envs", env), "STARTS", None)
    if starts is not None and episodes > starts:
        raise UserError(f"env {env!r} has {starts} starts of a task to evaluate from, fewer than --episodes {episodes}")


def _check_layouts(spec: PolicySpec, env: Env, name: str) -> None:
    right = "evaluate it in the env it was trained for"
    for what, wanted, found in (
        ("actions are", spec.action_layout, env.action_layout),
        ("state is", spec.state_layout, env.state_layout),
    ):
        if wanted and found and Layout.parse(wanted) != Layout.parse(found):
            raise UserError(f"the policy's {what} {wanted!r}, of env {name!r} {found!r}; {right}")
    width = env.action_space.shape[0]
    if width != spec.action_width:
        raise UserError(
            f"the policy's actions have width {spec.action_width}, those of env {name!r} width {width}; {right}"
        )
    if spec.fps and not isclose(spec.fps, env.fps, rel_tol=SAME_RATE):
        raise UserError(
            f"the policy acts at {spec.fps:g} control steps a second, env {name!r} at {env.fps:g}; train it on "
            "data of the env's own rate"
        )


def _recorded(spec: PolicySpec, settings: Settings, renderer: Renderer | None) -> Recorded:
    """What `settings.json` holds: the checkpoint by its contents too, as a folder can be trained into again."""
    protocol = settings.protocol
    return Recorded(
        **{name.name: getattr(settings, name.name) for name in fields(Evaluated)},
        protocol=protocol and protocol.name,
        protocol_sha256=protocol and protocol.sha256,
        checkpoint_sha256=fingerprint(settings.checkpoint) if settings.checkpoint else None,
        sampling=spec.sampling,
        renderer=str(renderer or ""),
        identity=spec.identity,
    )


def _seeds(settings: Settings, task: str) -> Sequence[int]:
    """The envs' seeds, by episode: the protocol's, if it lists any of the task."""
    listed = settings.protocol.seeds.get(task) if settings.protocol else None
    return listed or range(EVALUATION_SEED_OFFSET, EVALUATION_SEED_OFFSET + MOST_EPISODES)


def _jobs(settings: Settings, out: Path) -> Iterator[EpisodeJob]:
    horizons = settings.protocol.horizons if settings.protocol else {}
    for task in settings.tasks:
        seeds = _seeds(settings, task)
        for episode in range(settings.episodes):
            yield EpisodeJob(
                task=task,
                episode=episode,
                env_seed=seeds[episode],
                noise_seed=derive_seed(settings.seed, task, episode),
                recording=out.absolute() / "recordings" / f"{task}-{episode}" if settings.record else None,
                failure_only=episode >= settings.record,
                horizon=horizons.get(task),
            )
