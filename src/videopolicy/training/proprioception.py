"""What a recipe needs of the states in the data."""

from collections.abc import Sequence

from videopolicy.actions.relative import Relative
from videopolicy.datasets.base import Dataset
from videopolicy.errors import UserError


def check_relative(acting: Sequence[Dataset], relative: Relative) -> None:
    """Raises UserError unless all data sets with actions have what relative ones are made of."""
    needed = relative.layout.width, relative.state_layout.width
    for dataset in acting:
        if (dataset.action_width, dataset.state_width) != needed:
            raise UserError(
                f"{dataset.path}: relative actions need {needed[0]} numbers of each action and {needed[1]} of each "
                f"state, but it has {dataset.action_width or 0} and {dataset.state_width or 0}; train on its video "
                "alone (actions = false in a list of data sets), or leave --relative out"
            )


def state_width(acting: Sequence[Dataset], learnt: int) -> int:
    """S of the states of all data sets with actions, which must be that of a head that has learnt.

    Raises:
        UserError: one has no states, or states of another width.
    """
    for dataset in acting:
        if dataset.state_width is None:
            raise UserError(
                f"{dataset.path}: proprioception needs states, but none are recorded here; train on its video alone "
                "(actions = false in a list of data sets), or without proprioception"
            )
        if dataset.state_width != (learnt or acting[0].state_width):
            other = f"the checkpoint's {learnt}" if learnt else f"those of {acting[0].path} {acting[0].state_width}"
            raise UserError(
                f"{dataset.path}: its states are {dataset.state_width} wide, {other}; choose the same ones with "
                "`videopolicy convert --state-columns`, or train without proprioception"
            )
    return learnt or acting[0].state_width or 0
