"""What a policy is shown where ways to draw a plan are compared: images and words, of a data set or of an env.

Actions are compared as the model has them, so that any state does.
"""

from videopolicy.datasets.base import Dataset
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, make_env
from videopolicy.errors import UserError
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.types import Observation

GOLDEN = (5**0.5 - 1) / 2


def recorded_observations(policy: CheckpointPolicy, dataset: Dataset, count: int) -> list[Observation]:
    """Control steps spread evenly over a data set's episodes, and over their length.

    Args:
        policy: whose views are read.
        dataset: where from.
        count: how many.

    Raises:
        UserError: the data set lacks a view.
    """
    views = policy.spec.views
    if lacking := [view for view in views if view not in dataset.views]:
        raise UserError(f"{dataset.path} has no view {', '.join(lacking)}, which the policy sees")
    found = []
    for number in range(count):
        # The middle of one of so many equal stretches; the golden ratio spreads the steps whatever their number.
        index, share = int((number + 0.5) * len(dataset) / count), number * GOLDEN % 1
        step = int(share * dataset.length(index))
        episode = dataset.episode(index, views, step, step + 1)
        images = {view: frames[0] for view, frames in episode.views.items()}
        state = policy.origin if policy.origin is None or episode.states is None else episode.states[0]
        found.append(Observation(images, episode.instruction, state))
    return found


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
