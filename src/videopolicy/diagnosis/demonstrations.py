"""What the demonstrations show, ready to be compared with: every frame as codes, with the actions and the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from videopolicy.datasets.base import Dataset
from videopolicy.diagnosis.feature_space import FeatureSpace
from videopolicy.errors import UserError, unknown
from videopolicy.progress import progress_bar

# More would take minutes and gigabytes, and tell hardly more.
MOST = 400
_FITTED = 32


@dataclass(frozen=True)
class Demonstration:
    """One demonstration.

    Attributes:
        tasks: by what names the task is known: the env's, if there is one, and the instruction.
        codes: of its frames; n of them.
        actions: executed after each frame; None for video without actions.
    """

    tasks: tuple[str, ...]
    codes: Float[Tensor, "n K h w"]
    actions: Float32[np.ndarray, "n D"] | None


def read(dataset: Dataset, views: tuple[str, ...]) -> tuple[FeatureSpace, list[Demonstration]]:
    """The space of a data set's frames and its demonstrations in it, evenly chosen if there are more than `MOST`.

    Args:
        dataset: demonstrations; those that are known to have failed are left out.
        views: that are compared.

    Raises:
        UserError: a view that the data set does not have, no action or no success in it, or what `Dataset.episode`
            raises.
    """
    for view in views:
        if view not in dataset.views:
            raise UserError(f"{dataset.path}: {unknown('view', view, dataset.views)}")
    if not dataset.action_width:
        raise UserError(f"{dataset.path}: video without actions; the inverse dynamics need demonstrations with actions")
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(MOST, len(dataset))).round().astype(int)).tolist()
    every = max(1, len(chosen) // _FITTED)
    space = FeatureSpace.fit(views, (dataset.episode(index, views).views for index in islice(chosen, 0, None, every)))
    found = []
    for index in progress_bar(chosen, desc="demonstrations", unit="episode"):
        episode = dataset.episode(index, views)
        if episode.success is not False:
            names = tuple(filter(None, (episode.task, episode.instruction)))
            found.append(Demonstration(names, space.encode(episode.views), episode.actions))
    if not found:
        raise UserError(f"{dataset.path}: no demonstration in it succeeded; give one whose episodes reach the goal")
    return space, found


def of_task(demonstrations: Sequence[Demonstration], task: str, instruction: str) -> list[Demonstration]:
    """The demonstrations of one task, known by either name.

    Raises:
        UserError: there is none.
    """
    found = [shown for shown in demonstrations if task in shown.tasks or instruction in shown.tasks]
    if not found:
        known = {name for shown in demonstrations for name in shown.tasks}
        raise UserError(f"the demonstrations do not show how it is done: {unknown('task', task, known)}")
    return found
