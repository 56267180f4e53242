"""What the head makes of the true future of a recorded step, beside what it makes of its own imagination."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isclose
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from videopolicy.datasets.base import SAME_RATE, Dataset
from videopolicy.diagnosis.given import Informed
from videopolicy.errors import UserError, unknown
from videopolicy.policies.base import derive_seed
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.progress import progress_bar
from videopolicy.types import Episode, Observation

# Evenly chosen; more would take minutes and tell hardly more.
MOST_EPISODES, CLIPS = 50, 4
DRAWS, CONFIDENCE = 10_000, 0.95
# What the head is shown.
ACTING, IMAGINED, TRUE, STILL = "as it acts", "its own imagined future", "the true future", "nothing that moves"
KINDS = (ACTING, IMAGINED, TRUE, STILL)
_SEED = 0


@dataclass(frozen=True)
class Estimated:
    """A mean or a ratio of means over episodes, with its 95 % interval: a bootstrap of whole episodes."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """How far the actions read are from the recorded ones.

    Attributes:
        errors: mean absolute error of the actions that would be executed, normalised, of each episode and kind, (E, 4).
        clips: recorded steps looked at.
        execute: actions that are compared, from each of these steps on.
    """

    errors: Float[np.ndarray, "E 4"]
    clips: int
    execute: int

    def error(self, kind: str) -> Estimated:
        """Of one kind."""
        return self._estimate(lambda means: means[..., KINDS.index(kind)])

    def ratio(self, kind: str, to: str) -> Estimated:
        """Of the errors of two kinds."""
        return self._estimate(lambda means: means[..., KINDS.index(kind)] / means[..., KINDS.index(to)])

    @property
    def reads(self) -> bool:
        """Whether the head reads the video at all: better from the true future than where nothing moves."""
        return self.ratio(TRUE, STILL).high < 1

    @property
    def gains(self) -> bool:
        """Whether it reads better from the true future than from its own."""
        return self.ratio(TRUE, IMAGINED).high < 1

    def to_json(self) -> dict[str, Any]:
        """Everything, in JSON types."""
        return {
            "episodes": len(self.errors),
            "clips": self.clips,
            "compared_actions": self.execute,
            "mean_absolute_error": {kind: asdict(self.error(kind)) for kind in KINDS},
            "true_to_imagined": asdict(self.ratio(TRUE, IMAGINED)),
            "true_to_nothing_moves": asdict(self.ratio(TRUE, STILL)),
            "by_episode": {kind: self.errors[:, index].tolist() for index, kind in enumerate(KINDS)},
        }

    @cached_property
    def _means(self) -> Float[np.ndarray, "draws 4"]:
        """Of episodes drawn again, the same for all kinds."""
        n = len(self.errors)
        counts = np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=DRAWS)
        return counts @ self.errors / n

    def _estimate(self, of: Callable[[np.ndarray], np.ndarray]) -> Estimated:
        low, high = np.quantile(of(self._means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimated(float(of(self.errors.mean(0))), float(low), float(high))


def compare_readings(policy: CheckpointPolicy, informed: Informed, dataset: Dataset, execute: int) -> OpenLoop:
    """Reads the actions of recorded steps out of futures true and imagined, from the same noise.

    Args:
        policy: acts, and imagines.
        informed: its head.
        dataset: demonstrations with actions, best of all such that the policy was not trained on; those that are known
            to have failed are left out.
        execute: the first so many actions of a chunk are compared, as they are the ones that are executed.

    Raises:
        UserError: the data set does not fit the policy, or no episode of it has actions and is long enough.
    """
    _check(policy, dataset)
    errors, clips = [], 0
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(MOST_EPISODES, len(dataset))).round().astype(int))
    for index in progress_bar(chosen.tolist(), desc="recorded steps", unit="episode"):
        episode = dataset.episode(index, policy.spec.views)
        found = [_errors(policy, informed, episode, start, execute) for start in _starts(policy, episode)]
        if found:
            errors.append(np.mean(found, 0))
            clips += len(found)
    if not errors:
        raise UserError(
            f"{dataset.path}: no episode with actions that is as long as a window of the policy "
            f"({policy.model.config.window.span} control steps); give demonstrations of its own kind"
        )
    return OpenLoop(np.array(errors), clips, execute)


def _check(policy: CheckpointPolicy, dataset: Dataset) -> None:
    spec = policy.spec
    for view in spec.views:
        if view not in dataset.views:
            raise UserError(f"{dataset.path}: {unknown('view', view, dataset.views)}")
    if dataset.action_width != spec.action_width:
        width = f"actions {dataset.action_width} wide" if dataset.action_width else "no actions"
        raise UserError(
            f"{dataset.path}: {width}, but the policy's are {spec.action_width} wide; give data of its kind"
        )
    for part, own in (("action", spec.action_layout), ("state", spec.state_layout)):
        other = getattr(dataset, f"{part}_layout")
        if own and other and own != other:
            raise UserError(f"{dataset.path}: {part}s mean {other!r}, but the policy's {own!r}; give data of its kind")
    if spec.fps and not isclose(dataset.fps, spec.fps, rel_tol=SAME_RATE):
        raise UserError(
            f"{dataset.path}: {dataset.fps:g} control steps a second, but the policy acts at {spec.fps:g}; "
            "give demonstrations at its rate"
        )


def _starts(policy: CheckpointPolicy, episode: Episode) -> Iterator[int]:
    """Steps that begin a whole window, evenly spaced; none of an episode that is no example."""
    last = len(episode) - policy.model.config.window.span
    if episode.actions is not None and episode.success is not False and last >= 0:
        yield from np.unique(np.linspace(0, last, CLIPS).round().astype(int)).tolist()


def _errors(
    policy: CheckpointPolicy, informed: Informed, episode: Episode, start: int, execute: int
) -> Float[np.ndarray, "4"]:
    window = policy.model.config.window
    assert episode.actions is not None
    now = {view: frames[start] for view, frames in episode.views.items()}
    state = policy.origin if episode.states is None else episode.states[start]
    observation, seed = Observation(now, episode.instruction, state), derive_seed("oracle", episode.seed or 0, start)
    wanted = informed.normalized(episode.actions[window.action_indices(start, len(episode))], observation)
    steps = window.frame_indices(start, len(episode))
    true = informed.latents_of({view: frames[steps] for view, frames in episode.views.items()})
    drawn, _ = policy.draw([observation], [seed])
    futures = torch.cat((drawn.video, true, informed.still(observation)))
    read = informed.draw([observation] * len(futures), [seed] * len(futures), futures)
    off = torch.cat((drawn.actions, read)).cpu().numpy() - wanted
    return np.abs(off[:, :execute]).mean((1, 2))
