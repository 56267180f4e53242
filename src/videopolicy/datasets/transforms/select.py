"""Part of a data set under other names: which views, called what, and which episodes keep their actions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.transforms.base import Derived
from videopolicy.errors import UserError, unknown
from videopolicy.types import Episode


class Selection(Derived):
    """A `videopolicy.datasets.base.Dataset` that shows another one, without copying anything.

    Args:
        dataset: what is shown.
        views: new name -> the data set's own name, in the order wanted; None keeps all as they are.
        actions_for: instructions or task names whose episodes keep their actions; None keeps all, () none.
        actions_of: numbers (see `Dataset.number`) of the episodes that keep them, if their task does; None keeps all,
            () none.
        min_confidence: of episodes whose actions were read from video, the least of those that keep them; None keeps
            all.

    Raises:
        UserError: the data set lacks a view.
    """

    def __init__(
        self,
        dataset: Dataset,
        views: Mapping[str, str] | None = None,
        actions_for: Collection[str] | None = None,
        actions_of: Collection[int] | None = None,
        min_confidence: float | None = None,
    ) -> None:
        self._names = {view: view for view in dataset.views} if views is None else dict(views)
        self._actions_for = None if actions_for is None else frozenset(actions_for)
        self._actions_of = None if actions_of is None else frozenset(actions_of)
        self._min_confidence = min_confidence
        for view in self._names.values():
            if view not in dataset.views:
                raise UserError(f"{dataset.path}: {unknown('view', view, dataset.views)}")
        recipe: list[Any] = [self._names, None if self._actions_for is None else sorted(self._actions_for)]
        # Only where it is said: caches know the other selections by the shorter recipe.
        recipe += [] if self._actions_of is None else [sorted(self._actions_of)]
        recipe += [] if min_confidence is None else [{"min_confidence": min_confidence}]
        super().__init__(dataset, recipe)
        self.views = tuple(self._names)
        self.action_width = None if frozenset() in (self._actions_for, self._actions_of) else dataset.action_width

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or part of it; see `Dataset.episode`."""
        chosen = self.views if views is None else views
        for view in chosen:
            if view not in self._names:
                raise UserError(f"{self.path}: {unknown('view', view, self.views)}")
        # Two new names may stand for one view, which is then decoded once.
        own = tuple(dict.fromkeys(self._names[view] for view in chosen))
        episode = self.inner.episode(index, own, start, stop)
        frames = {view: episode.views[self._names[view]] for view in chosen}
        return replace(episode, views=frames, actions=episode.actions if self._keeps(index, episode) else None)

    def _keeps(self, index: int, episode: Episode) -> bool:
        tasks, numbers = self._actions_for, self._actions_of
        of_task = tasks is None or episode.task in tasks or episode.instruction in tasks
        sure = self._min_confidence is None or episode.confidence is None or episode.confidence >= self._min_confidence
        return sure and of_task and (numbers is None or self.inner.number(index) in numbers)
