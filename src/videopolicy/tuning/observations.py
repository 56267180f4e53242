"""What a policy is shown where ways to draw a plan are compared: observations of a data set, of an env, or noise."""

import numpy as np

from videopolicy.datasets.base import Dataset
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, make_env
from videopolicy.errors import UserError
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.types import Observation


def random_observations(policy: CheckpointPolicy, count: int) -> list[Observation]:
    """Images of even noise, the same for every policy of these views and this size."""
    spec, rng = policy.spec, np.random.default_rng(0)
    shape = (spec.size, spec.size, 3)
    # Which word is said makes no difference to the time.
    return [
        Observation({view: rng.integers(0, 256, shape, dtype=np.uint8) for view in spec.views}, "go", policy.origin)
        for _ in range(count)
    ]


def recorded_observations(policy: CheckpointPolicy, dataset: Dataset, count: int) -> list[Observation]:
    """Control steps spread evenly over a data set's episodes, and over their length.

    Args:
        policy: whose views are read.
        dataset: where from.
        count: how many.

    Raises:
        UserError: the data set lacks a view, or the state that the policy acts from.
    """
    spec = policy.spec
    if lacking := [view for view in spec.views if view not in dataset.views]:
        raise UserError(f"{dataset.path} has no view {', '.join(lacking)}, which the policy sees")
    if spec.state_layout and not dataset.state_width:
        raise UserError(f"{dataset.path} holds no state, which the policy acts from")
    # The middles of so many equal stretches; the golden ratio spreads the steps however many episodes there are.
    episodes = [int((number + 0.5) * len(dataset) / count) for number in range(count)]
    shares = [(number * (5**0.5 - 1) / 2) % 1 for number in range(count)]
    return [_recorded(policy, dataset, index, share) for index, share in zip(episodes, shares, strict=True)]


def _recorded(policy: CheckpointPolicy, dataset: Dataset, index: int, share: float) -> Observation:
    step = int(share * dataset.length(index))
    episode = dataset.episode(index, policy.spec.views, step, step + 1)
    images = {view: frames[0] for view, frames in episode.views.items()}
    # Whose actions need no state is not given one.
    state = episode.states[0] if policy.spec.state_layout and episode.states is not None else None
    return Observation(images, episode.instruction, state)


def first_observations(policy: CheckpointPolicy, env: str, tasks: tuple[str, ...], count: int) -> list[Observation]:
    """What an env shows at the starts of evaluations, its tasks in turn.

    Args:
        policy: whose views are rendered.
        env: the env's name.
        tasks: the env's names of them.
        count: how many, at least one a task.

    Raises:
        UserError: no such env, task or view, or it cannot run here.
    """
    found = []
    for index, task in enumerate(tasks):
        opened = make_env(env, task, views=policy.spec.views, size=policy.spec.size)
        try:
            for number in range(max(1, len(range(index, count, len(tasks))))):
                opened.reset(seed=EVALUATION_SEED_OFFSET + number)
                found.append(opened.observe())
        finally:
            opened.close()
    return found
