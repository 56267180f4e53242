"""A data set whose owner says more of it than its files do: other instructions, the meaning of its actions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from videopolicy.actions.layout import Layout
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.transforms.base import Derived
from videopolicy.errors import UserError, unknown
from videopolicy.types import Episode


class Relabeled(Derived):
    """A `videopolicy.datasets.base.Dataset` that shows another one with other words.

    Args:
        dataset: what is shown.
        instructions: the data set's own instruction -> what is said instead.
        action_layout: what an action's dimensions mean (see `videopolicy.actions.layout`); "" leaves it.
        state_layout: the same of the state.

    Raises:
        UserError: no such instruction; a layout that is none, of another width, or not what the data set says it is.
    """

    def __init__(
        self,
        dataset: Dataset,
        instructions: Mapping[str, str],
        action_layout: str = "",
        state_layout: str = "",
    ) -> None:
        super().__init__(dataset, [dict(instructions), action_layout, state_layout])
        self._instructions = dict(instructions)
        for instruction in instructions:
            if instruction not in dataset.tasks:
                raise UserError(f"{dataset.path}: {unknown('instruction', instruction, dataset.tasks)}")
        self.tasks = tuple(dict.fromkeys(self._instructions.get(task, task) for task in dataset.tasks))
        self.action_layout = _layout("action", action_layout, dataset.action_layout, dataset.action_width, dataset)
        self.state_layout = _layout("state", state_layout, dataset.state_layout, dataset.state_width, dataset)

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`."""
        episode = self.inner.episode(index, views, start, stop)
        return replace(episode, instruction=self._instructions.get(episode.instruction, episode.instruction))


def _layout(name: str, text: str, own: str, width: int | None, dataset: Dataset) -> str:
    """The text as `Layout` writes it, if it fits and does not contradict the data set's own."""
    if not text:
        return own
    layout = Layout.parse(text)
    if layout.width != width:
        has = f"it has no {name}s" if width is None else f"its {name}s have {width}"
        raise UserError(f"{dataset.path}: the {name} layout {text!r} has {layout.width} dimensions, but {has}")
    # Written by anybody, with blanks as they like.
    if own and own.split() not in (text.split(), str(layout).split()):
        raise UserError(
            f"{dataset.path}: the source says {own!r}; leave --{name}-layout out, or mend meta/info.json if it is "
            "wrong (that of the result, if the source has none)"
        )
    return str(layout)
