"""Finds the fastest way to draw a plan that is as good as a checkpoint's own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from videopolicy.models.sampling import EXACT, Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.rollout.comparison import PairedOutcomes
from videopolicy.rollout.sequential import Standing
from videopolicy.tuning.closeness import DrawnActions, at_most, draw
from videopolicy.tuning.success import Starts
from videopolicy.tuning.ways import candidates
from videopolicy.types import Observation

# A way that saves less than this is not worth a name, and on a busy machine may owe it to chance.
FASTER = 1.1
# The independent units of the distance: enough for an interval of their mean.
OBSERVATIONS = 12


@dataclass(frozen=True)
class Candidate:
    """What is known of one way to draw a plan.

    Attributes:
        sampling: how it draws.
        milliseconds: of a plan, at the median.
        times_faster: than mode exact, at the median over plans drawn in turns.
        off: mean absolute distance of its actions from mode exact's, normalised (see `videopolicy.tuning.closeness`).
        off_at_most: the upper end of the interval of that.
        pairs: starts that both played, mode exact first; None if none were.
        standing: what they say of its success; None likewise.
    """

    sampling: Sampling
    milliseconds: float
    times_faster: float
    off: float
    off_at_most: float
    pairs: PairedOutcomes | None = None
    standing: Standing | None = None


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        own: mode exact, compared with itself.
        spread: mean absolute distance of mode exact's actions from those that it draws by another seed.
        tried: every candidate, the fastest first.
        chosen: the fastest one that passes; None if none is faster and passes.
    """

    own: Candidate
    spread: float
    tried: tuple[Candidate, ...]
    chosen: Candidate | None


def search(
    policy: CheckpointPolicy,
    observations: Sequence[Observation],
    bound: float,
    starts: Starts | None,
    episodes: int,
    bar: tqdm,
) -> Search:
    """Draws plans in every candidate way, then lets those within the bound act, the fastest first.

    Args:
        policy: a checkpoint's, in mode exact.
        observations: what the distance of the actions is measured on, at least two.
        bound: the largest distance that passes.
        starts: where success is compared; None if the distance alone decides.
        episodes: starts of each task, at most.
        bar: counts plans, then episodes.
    """
    ways = candidates(policy.sampling, policy.model.backbone.holds_deep, policy.model.looks_once)
    policies = [policy, *(way.apply(policy) for way in ways)]
    bar.reset(total=(len(policies) + 1) * len(observations))
    draws = draw(policies, observations, bar)
    own, *others = (_measured(one.sampling, draws, index) for index, one in enumerate(policies))
    tried = sorted(others, key=lambda one: one.milliseconds)
    chosen = None
    for index, one in enumerate(tried):
        if not passes(one, bound):
            continue
        if starts is not None:
            bar.total = bar.n + 2 * episodes * len(starts.tasks)
            fast = (policy.resampled(one.sampling), str(one.sampling))
            pairs, found = starts.compare((policy, EXACT), fast, episodes, bar)
            one = tried[index] = replace(one, pairs=pairs, standing=found)
        if one.standing in (None, Standing.NOT_WORSE):
            chosen = one
            break
    return Search(own, draws.spread, tuple(tried), chosen)


def passes(one: Candidate, bound: float) -> bool:
    """Whether a candidate is faster, and its actions are close enough to let it act."""
    return one.times_faster >= FASTER and one.off_at_most <= bound


def _measured(sampling: Sampling, draws: DrawnActions, index: int) -> Candidate:
    off = draws.off(index)
    return Candidate(sampling, draws.median(index) * 1e3, draws.times_faster(index), float(off.mean()), at_most(off))
