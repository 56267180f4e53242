"""What runs in an env's own process: it plays the episodes it is given, and asks over a pipe for its plans.

It imports no torch, so that it starts fast and stays small.
"""

import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from videopolicy import registry
from videopolicy.envs.base import Env, State, make_env
from videopolicy.errors import user_mistake
from videopolicy.executors.base import Ask, Executor, NotFiniteError
from videopolicy.policies.base import PlanRequest
from videopolicy.rollout.recordings import Recorder
from videopolicy.rollout.results import ENV_NAN, HORIZON, PLAN_NAN, SUCCESS, Result
from videopolicy.types import Observation, Plan


@dataclass(frozen=True)
class Setup:
    """What is the same for every episode.

    Attributes:
        env: the env's plug-in.
        views: the cameras; () for the env's own choice.
        size: pixels on each side of an image.
        executor: the executor's plug-in.
        execute: control steps from one request for a plan to the next.
        latency: control steps from a request to its plan.
    """

    env: str
    views: tuple[str, ...]
    size: int
    executor: str
    execute: int
    latency: int

    def open_env(self, task: str) -> Env:
        """Opens one task of the env.

        Raises:
            UserError: no such env, task or view, or it cannot run here.
        """
        return make_env(self.env, task, views=self.views, size=self.size)

    def build_executor(self, ask: Ask) -> Executor:
        """A new executor, which asks this for its plans.

        Raises:
            UserError: no such executor, or it cannot keep this rhythm.
        """
        return registry.build("executors", self.executor, ask, execute=self.execute, latency=self.latency)


@dataclass(frozen=True)
class EpisodeJob:
    """One episode to play.

    Attributes:
        task: the env's name of the task.
        episode: its number within the task.
        env_seed: resets the env.
        noise_seed: seeds its plans' noise.
        recording: the folder to record it in, or None.
        failure_only: not to record it if it succeeds.
        retries: how often it was begun before.
        horizon: control steps after which it ends, the same in all episodes of a task; None for the env's own.
    """

    task: str
    episode: int
    env_seed: int
    noise_seed: int
    recording: Path | None = None
    failure_only: bool = False
    retries: int = 0
    horizon: int | None = None


@dataclass(frozen=True)
class Failure:
    """A process gives up: the user's mistake, or a traceback."""

    message: str
    mistake: bool


class Pipe(Protocol):
    """To the main process."""

    def send(self, obj: Any, /) -> None:
        """Says something."""
        ...

    def recv(self) -> Any:
        """Waits for what is said."""
        ...


def work(pipe: Pipe, setup: Setup) -> None:
    """The whole life of an env's process: plays each EpisodeJob that comes, sends its Result, ends with the pipe.

    Sends a PlanRequest and waits for a Plan whenever the executor asks. A Failure is the last word.

    Raises:
        EOFError, BrokenPipeError, ConnectionResetError: the pipe has ended.
    """
    try:
        _play_all(pipe, setup)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    # Whatever it was: unheard, the main process would wait until its time is up.
    except Exception as error:
        pipe.send(_failure(error))


def _failure(error: Exception) -> Failure:
    if mistake := user_mistake(error):
        return Failure(str(mistake), mistake=True)
    return Failure(traceback.format_exc(), mistake=False)


def _play_all(pipe: Pipe, setup: Setup) -> None:
    env = None
    while True:
        job: EpisodeJob = pipe.recv()
        if env is None or env.task != job.task:
            if env is not None:
                env.close()
            env = setup.open_env(job.task)
            if job.horizon is not None:
                env.horizon = job.horizon
        pipe.send(_play(env, job, setup, pipe))


def _play(env: Env, job: EpisodeJob, setup: Setup, pipe: Pipe) -> Result:
    begun = time.perf_counter()
    recorder = Recorder(env.fps) if job.recording else None

    def ask(observation: Observation, seed: int) -> Plan:
        pipe.send(PlanRequest(observation, seed, imagine=recorder is not None))
        plan = pipe.recv()
        if recorder:
            recorder.add_plan(plan)
        return plan

    executor = setup.build_executor(ask)
    executor.reset(job.noise_seed)
    ended, steps = control(env, executor, recorder, job)
    success = ended == SUCCESS
    # What cannot be told in numbers cannot be shown either.
    recorded = bool(recorder) and ended != ENV_NAN and not (success and job.failure_only)
    if recorder and job.recording and recorded:
        if job.failure_only:
            _show_again(env, recorder, job)
        facts = {"task": job.task, "episode": job.episode, "instruction": env.instruction, "success": success}
        recorder.write(job.recording, **facts)
    return Result(
        task=job.task,
        episode=job.episode,
        seed=job.env_seed,
        success=success,
        steps=steps,
        seconds=round(time.perf_counter() - begun, 3),
        plans=executor.plans,
        recorded=recorded,
        retries=job.retries,
        ended=ended,
    )


def control(env: Env, executor: Executor, recorder: Recorder | None, job: EpisodeJob) -> tuple[str, int]:
    """Plays an episode.

    Args:
        env: where.
        executor: at the beginning of the episode.
        recorder: what it is recorded by, if it is.
        job: which episode.

    Returns:
        How it ended, and its steps.
    """
    steps, ended = 0, ""
    # Rendering costs more than physics, so it happens only for the policy or for what is recorded for certain.
    films = recorder is not None and not job.failure_only
    state, _ = env.reset(seed=job.env_seed)
    while not ended:
        observation = env.observe() if executor.needs_observation or films else None
        if not _finite(state, observation):
            return ENV_NAN, steps
        if recorder:
            recorder.add_observation(observation if films else None)
        try:
            action = executor.act(observation)
        except NotFiniteError:
            return PLAN_NAN, steps
        if recorder:
            recorder.add_action(action)
        state, _, terminated, truncated, info = env.step(action)
        steps += 1
        if info["success"]:
            ended = SUCCESS
        elif terminated or truncated:
            ended = HORIZON
    if not _finite(state, None):
        return ENV_NAN, steps
    if recorder:
        recorder.add_observation(env.observe() if films else None)
    return ended, steps


def _show_again(env: Env, recorder: Recorder, job: EpisodeJob) -> None:
    """Plays an episode once more to show it: the same seed and the same actions give the same states, to the bit."""
    env.reset(seed=job.env_seed)
    recorder.show(env.observe())
    for action in recorder.actions:
        env.step(action)
        recorder.show(env.observe())


def _finite(state: State, observation: Observation | None) -> bool:
    images = () if observation is None else observation.images.values()
    return all(bool(np.isfinite(array).all()) for array in (state, *images))
