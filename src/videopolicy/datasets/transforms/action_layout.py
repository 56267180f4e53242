"""A data set whose actions and states are shown in other action layouts."""

from collections.abc import Sequence
from dataclasses import replace

from videopolicy.actions.convert import convert, obstacle
from videopolicy.actions.layout import Layout
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.transforms.base import Derived
from videopolicy.errors import UserError
from videopolicy.types import Episode


class LayoutConverted(Derived):
    """A `videopolicy.datasets.base.Dataset` that shows another one with its actions and states converted.

    Args:
        dataset: what is shown; it names its layouts wherever another one is asked for.
        action_layout: what the actions are to mean (see `videopolicy.actions.layout`); "" leaves them.
        state_layout: the same of the states.

    Raises:
        UserError: they cannot be converted; the message says why.
    """

    def __init__(self, dataset: Dataset, action_layout: str = "", state_layout: str = "") -> None:
        super().__init__(dataset, [action_layout, state_layout])
        self._actions = _ways(dataset, "actions", dataset.action_layout, action_layout)
        self._states = _ways(dataset, "states", dataset.state_layout, state_layout)
        self.action_width = self._actions[1].width if self._actions else dataset.action_width
        self.state_width = self._states[1].width if self._states else dataset.state_width
        self.action_layout, self.state_layout = action_layout or self.action_layout, state_layout or self.state_layout

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`."""
        episode = self.inner.episode(index, views, start, stop)
        if self._actions and episode.actions is not None:
            episode = replace(episode, actions=convert(episode.actions, *self._actions))
        if self._states and episode.states is not None:
            episode = replace(episode, states=convert(episode.states, *self._states))
        return episode


def _ways(dataset: Dataset, kind: str, own: str, wanted: str) -> tuple[Layout, Layout] | None:
    """From where to where; None if there is nothing to convert."""
    if wanted in ("", own):
        return None
    source, target = Layout.parse(own), Layout.parse(wanted)
    if reason := obstacle(source, target):
        raise UserError(f"{dataset.path}: its {kind} are {own!r}, but {wanted!r} is needed, and {reason}")
    return source, target
