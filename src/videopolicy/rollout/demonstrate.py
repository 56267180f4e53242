"""Records an env's expert, noise on what it does and none on what it says, over many processes.

The executed action is the expert's plus Gaussian noise; the recorded one is the expert's own, so that training sees
states off the expert's path together with the way back (DART, Laskey et al. 2017, arXiv 1703.09327).
"""

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from videopolicy.envs.base import EVALUATION_SEED_OFFSET, Env, make_env
from videopolicy.errors import UserError
from videopolicy.processes import ordered_map
from videopolicy.types import Episode

# Steps recorded after success: the model learns to stay where the task is done.
AFTER_SUCCESS = 10


@dataclass(frozen=True)
class DemonstrationJob:
    """What to record of one task.

    Attributes:
        env: the env's name.
        task: the env's name of the task.
        views: cameras; empty for the env's own choice.
        size: pixels on each side of an image.
        noise: standard deviation of the noise on executed actions, in the action's own units.
        steps: control steps an episode has at least; it goes on until AFTER_SUCCESS steps after success.
    """

    env: str
    task: str
    views: tuple[str, ...]
    size: int
    noise: float
    steps: int


def record_episode(env: Env, seed: int, noise: float, steps: int) -> Episode:
    """Lets the env's expert act once; frame n was seen before action n.

    Args:
        env: where.
        seed: decides the initial state, and the noise.
        noise: standard deviation of the noise on executed actions.
        steps: least number of steps.

    Returns:
        The episode; `success` says whether the task was done before the horizon.
    """
    generator = np.random.default_rng([seed, 1])
    state, _ = env.reset(seed=seed)
    expert = env.expert()
    frames: dict[str, list[np.ndarray]] = {view: [] for view in env.views}
    states, actions = [], []
    last, success, ended = env.horizon, False, False
    while not ended and len(actions) < last:
        for view, image in env.observe().images.items():
            frames[view].append(image)
        action = expert()
        states.append(state)
        actions.append(action)
        disturbed = action + noise * generator.standard_normal(action.shape)
        executed = np.clip(disturbed, env.action_space.low, env.action_space.high).astype(np.float32)
        state, _, _, ended, info = env.step(executed)
        if info["success"] and not success:
            success, last = True, max(steps, len(actions) + AFTER_SUCCESS)
    return Episode(
        {view: np.stack(images) for view, images in frames.items()},
        env.instruction,
        env.fps,
        np.stack(actions),
        np.stack(states),
        env.task,
        success,
        seed,
    )


def record(what: DemonstrationJob, first_seed: int, workers: int) -> Generator[Episode, None, None]:
    """Episodes of seeds first_seed, first_seed + 1, ..., in this order whatever the number of workers; never ends.

    Failures are among them. Close the iterator to stop the workers.

    Args:
        what: task, views, noise.
        first_seed: the first episode's seed.
        workers: processes.

    Raises:
        UserError: what the env raised; a process died; or the seeds have come to those of evaluation.
    """

    def lost(seed: int, ending: str) -> str:
        died = f"the process that recorded {what.task} from seed {seed} died ({ending})"
        return f"{died}, often for lack of memory; fewer --workers need less"

    seeds = range(first_seed, EVALUATION_SEED_OFFSET)
    with closing(ordered_map(partial(_work, what), seeds, workers, lost, ahead=2 * workers + 1)) as episodes:
        yield from episodes
    raise UserError(f"seeds from {EVALUATION_SEED_OFFSET} on are kept for evaluation; begin with a lower one")


def _work(what: DemonstrationJob, seed: int) -> Episode:
    return record_episode(_env(what), seed, what.noise, what.steps)


@cache
def _env(what: DemonstrationJob) -> Env:
    # Each process has one core; what the env computes in threads would make them wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return make_env(what.env, what.task, views=what.views, size=what.size)
