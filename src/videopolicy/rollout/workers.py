"""What runs in a world's own process: it plays the episodes it is given, and asks over a pipe for its plans.

It imports no torch, so that it starts fast and stays small.
"""

import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from videopolicy import registry
from videopolicy.errors import UserError, refused
from videopolicy.policies.chunked import Chunked
from videopolicy.processes import belong
from videopolicy.rollout.recording import Recorder
from videopolicy.rollout.results import Result
from videopolicy.types import Observation, Plan
from videopolicy.worlds.base import World


@dataclass(frozen=True)
class Setup:
    """What is the same for every episode: the world, what is seen of it, how many actions of a plan are executed."""

    world: str
    views: tuple[str, ...]
    size: int
    execute: int


@dataclass(frozen=True)
class Job:
    """One episode to play; `recording` is the folder to record it in, or None; `failure_only`: unless it succeeds."""

    task: str
    episode: int
    world_seed: int
    noise_seed: int
    recording: Path | None = None
    failure_only: bool = False
    retries: int = 0


@dataclass(frozen=True)
class Request:
    """A process asks for a plan."""

    observation: Observation
    seed: int
    imagine: bool


@dataclass(frozen=True)
class Failure:
    """A process gives up: the user's mistake, or a traceback."""

    message: str
    mistake: bool


def work(connection: Connection, setup: Setup) -> None:
    """The whole life of a world's process: plays each Job that comes, sends its Result, ends with the pipe.

    Sends a Request and waits for a Plan whenever the policy looks. A Failure is the last word.
    """
    belong()
    # An end of file means that the main process is gone or done: nobody is left to tell.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            _play_all(connection, setup)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            connection.send(_failure(error))


def _failure(error: Exception) -> Failure:
    mistake = refused(error) if isinstance(error, OSError) else error if isinstance(error, UserError) else None
    if mistake is not None:
        return Failure(str(mistake), mistake=True)
    return Failure(f"a world's process failed:\n{traceback.format_exc()}", mistake=False)


def _play_all(connection: Connection, setup: Setup) -> None:
    world = None
    while True:
        job: Job = connection.recv()
        if world is None or world.task != job.task:
            if world is not None:
                world.close()
            world = registry.build("worlds", setup.world, job.task, views=setup.views, size=setup.size)
        connection.send(_play(world, job, setup.execute, connection))


def _play(world: World, job: Job, execute: int, connection: Connection) -> Result:
    begun = time.perf_counter()
    recorder = Recorder(world.fps) if job.recording else None

    def ask(observation: Observation, seed: int) -> Plan:
        connection.send(Request(observation, seed, imagine=recorder is not None))
        plan = connection.recv()
        if recorder:
            recorder.planned(plan)
        return plan

    policy = Chunked(ask, execute)
    policy.reset(job.noise_seed)
    world.reset(seed=job.world_seed)
    success, steps = _control(world, policy, recorder)
    recorded = bool(recorder) and not (success and job.failure_only)
    if recorder and job.recording and recorded:
        facts = {"task": job.task, "episode": job.episode, "instruction": world.instruction, "success": success}
        recorder.write(job.recording, **facts)
    return Result(
        task=job.task,
        episode=job.episode,
        seed=job.world_seed,
        success=success,
        steps=steps,
        seconds=round(time.perf_counter() - begun, 3),
        plans=policy.plans,
        recorded=recorded,
        retries=job.retries,
    )


def _control(world: World, policy: Chunked, recorder: Recorder | None) -> tuple[bool, int]:
    success, ended, steps = False, False, 0
    while not ended:
        # Rendering costs more than physics, so it happens only for the policy's eyes or the recording's.
        observation = world.look() if policy.looks or recorder else None
        if recorder and observation:
            recorder.saw(observation)
        _, _, terminated, truncated, info = world.step(policy.act(observation))
        steps += 1
        success = bool(info["success"])
        ended = success or terminated or truncated
    if recorder:
        recorder.saw(world.look())
    return success, steps
