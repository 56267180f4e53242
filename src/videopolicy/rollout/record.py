"""Records a world's expert, noise on what it does and none on what it says, over many processes.

The executed action is the expert's plus Gaussian noise; the recorded one is the expert's own, so that a learner sees
states off the expert's path together with the way back (DART, Laskey et al. 2017, arXiv 1703.09327).
"""

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context

import numpy as np

from videopolicy import registry
from videopolicy.errors import UserError
from videopolicy.processes import belong, interrupts_held
from videopolicy.types import Episode
from videopolicy.worlds.base import EVALUATION_SEED_OFFSET, World

# Steps recorded after success: the model learns to stay where the task is done.
AFTER_SUCCESS = 10


@dataclass(frozen=True)
class Recording:
    """What to record of one task.

    Attributes:
        world: the world's name.
        task: the world's name of the task.
        views: cameras; empty for the world's own choice.
        size: pixels on each side of an image.
        noise: standard deviation of the noise on executed actions, in the action's own units.
        steps: control steps an episode has at least; it goes on until AFTER_SUCCESS steps after success.
    """

    world: str
    task: str
    views: tuple[str, ...]
    size: int
    noise: float
    steps: int


def record_episode(world: World, seed: int, noise: float, steps: int) -> Episode:
    """Lets the world's expert act once; frame n was seen before action n.

    Args:
        world: where.
        seed: decides the initial state, and the noise.
        noise: standard deviation of the noise on executed actions.
        steps: least number of steps.

    Returns:
        The episode; `success` says whether the task was done before the horizon.
    """
    generator = np.random.default_rng([seed, 1])
    state, _ = world.reset(seed=seed)
    expert = world.expert()
    frames: dict[str, list[np.ndarray]] = {view: [] for view in world.views}
    states, actions = [], []
    last, success, ended = world.horizon, False, False
    while not ended and len(actions) < last:
        for view, image in world.look().images.items():
            frames[view].append(image)
        action = expert()
        states.append(state)
        actions.append(action)
        disturbed = action + noise * generator.standard_normal(action.shape)
        executed = np.clip(disturbed, world.action_space.low, world.action_space.high).astype(np.float32)
        state, _, _, ended, info = world.step(executed)
        if info["success"] and not success:
            success, last = True, max(steps, len(actions) + AFTER_SUCCESS)
    return Episode(
        {view: np.stack(images) for view, images in frames.items()},
        world.instruction,
        world.fps,
        np.stack(actions),
        np.stack(states),
        world.task,
        success,
        seed,
    )


def record(what: Recording, first_seed: int, workers: int) -> Generator[Episode, None, None]:
    """Episodes of seeds first_seed, first_seed + 1, ..., in this order whatever the number of workers; never ends.

    Failures are among them. Close the iterator to stop the workers.

    Args:
        what: task, views, noise.
        first_seed: the first episode's seed.
        workers: processes.

    Raises:
        UserError: what the world raised; a process died; or the seeds have come to those of evaluation.
    """
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin)
    try:
        pending: deque[Future[Episode]] = deque()
        for seed in range(first_seed, EVALUATION_SEED_OFFSET):
            with interrupts_held():
                pending.append(pool.submit(_work, what, seed))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        raise UserError(f"seeds from {EVALUATION_SEED_OFFSET} on are kept for evaluation; begin with a lower one")
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that recorded {what.task} died, often for lack of memory; fewer --workers need less"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _work(what: Recording, seed: int) -> Episode:
    return record_episode(_world(what), seed, what.noise, what.steps)


@cache
def _world(what: Recording) -> World:
    views = {"views": what.views} if what.views else {}
    return registry.build("worlds", what.world, what.task, size=what.size, **views)


def _begin() -> None:
    belong()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
