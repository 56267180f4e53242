"""Episodes in which the head is shown what the env's expert is about to do, filmed from the policy's own state."""

import time
from collections.abc import Sequence

import numpy as np

from videopolicy.diagnosis.given import Informed
from videopolicy.envs.base import Env
from videopolicy.errors import UserError
from videopolicy.policies.base import derive_seed
from videopolicy.rollout.recordings import Recorder
from videopolicy.rollout.results import SUCCESS, Result
from videopolicy.rollout.settings import Evaluated
from videopolicy.rollout.workers import EpisodeJob, Setup, control
from videopolicy.types import Action, Frames, Observation, Plan


def look_ahead(env: Env, seed: int, actions: Sequence[Action], offsets: Sequence[int]) -> dict[str, Frames]:
    """What every view would show if the expert acted from now on; afterwards the env is where it was.

    It gets back by beginning anew and executing the same actions, which gives the same states to the bit in every env.

    Args:
        env: after these actions.
        seed: that the episode was reset with.
        actions: those executed since.
        offsets: control steps from now to each frame, never falling.

    Returns:
        View -> the frames, (T, H, W, 3).

    Raises:
        UserError: the env has no expert.
    """
    expert, seen = env.expert(), {}
    for step in range(offsets[-1] + 1):
        if step in offsets:
            seen[step] = env.observe().images
        if step < offsets[-1]:
            env.step(expert())
    env.reset(seed=seed)
    for action in actions:
        env.step(action)
    return {view: np.stack([seen[offset][view] for offset in offsets]) for view in env.views}


def has_expert(env: Env) -> bool:
    """Whether someone can show how it is done; begins an episode."""
    env.reset(seed=0)
    try:
        env.expert()
    except UserError:
        return False
    return True


def play(env: Env, informed: Informed, setup: Setup, settings: Evaluated, before: Result) -> Result:
    """Plays an episode again, this time with the true future in sight.

    Args:
        env: of the task, with its horizon.
        informed: the head.
        setup: how it was executed.
        settings: of the evaluation.
        before: how the episode went with an imagined one: start and noise are the same.
    """
    begun = time.perf_counter()
    recorder = Recorder(env.fps)
    offsets = (0, *informed.model.config.window.offsets)

    def ask(observation: Observation, seed: int) -> Plan:
        ahead = look_ahead(env, before.seed, recorder.actions, offsets)
        return informed.plan(observation, seed, informed.latents_of(ahead))

    executor = setup.build_executor(ask)
    noise = derive_seed(settings.seed, before.task, before.episode)
    executor.reset(noise)
    # Nothing is filmed but what the head is shown.
    job = EpisodeJob(before.task, before.episode, before.seed, noise, failure_only=True)
    ended, steps = control(env, executor, recorder, job)
    seconds = round(time.perf_counter() - begun, 3)
    return Result(
        before.task, before.episode, before.seed, ended == SUCCESS, steps, seconds, executor.plans, False, 0, ended
    )
