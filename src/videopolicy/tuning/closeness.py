"""How far the actions that a way draws are from a reference's, and how long each way takes meanwhile.

**What is compared.** A generative policy has spread: two seeds of one sampler differ, too. That spread is no allowance
for error, though: a way that always gave the mean of what the reference draws would be nearer to each of its draws than
these are to one another, whatever it lost. So ways are compared from the same noise. A sampler is a map from noise to
actions, and the mean distance of two maps over the noise is the mean distance under one coupling of what they draw: it
is never less than the Wasserstein-1 distance of the two distributions, which is the least over all couplings
(Villani 2009, Optimal Transport, definition 6.1). A way whose mean distance is within the bound therefore draws from
nearly the same distribution; the converse does not hold, so the bound errs on the safe side. Noise shared by both also
takes most of the variance out of the estimate. Observations are the independent units, each with noise of its own: the
distance is averaged over steps and dimensions within each, and the upper end of a one-sided 95 % interval of the mean
over observations (Student's t) must be within the bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import stdtrit
from tqdm import tqdm

from videopolicy.hardware import now
from videopolicy.policies.base import derive_seed
from videopolicy.policies.benchmark import following
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.types import Observation

CONFIDENCE = 0.95


@dataclass(frozen=True)
class DrawnActions:
    """What several ways made of the same observations and the same noise.

    Attributes:
        actions: normalised, and clipped as they are for a robot, (ways, observations, A, D).
        seconds: that drawing one plan took, its images encoded, (ways, observations).
        spread: mean absolute distance of the first way's actions from those that it draws from other noise.
    """

    actions: Float[np.ndarray, "W N A D"]
    seconds: Float[np.ndarray, "W N"]
    spread: float

    def off(self, way: int) -> Float[np.ndarray, "N"]:
        """Mean absolute distance of a way's actions from the first's, for each observation."""
        return np.abs(self.actions[way] - self.actions[0]).mean((1, 2))

    def median(self, way: int) -> float:
        """Seconds of a plan."""
        return float(np.median(self.seconds[way]))

    def times_faster(self, way: int) -> float:
        """Than the first: the median ratio of times taken one after the other, so that a busy machine slows both."""
        return float(np.median(self.seconds[0] / self.seconds[way]))


def draw(policies: Sequence[CheckpointPolicy], observations: Sequence[Observation], bar: tqdm) -> DrawnActions:
    """Draws plans, the ways taking turns, so that their times can be compared on a machine with other work.

    Args:
        policies: one a way, of one network; what is measured of each refers to the first.
        observations: what is seen; a warm start goes on from another of the first way's plans for it.
        bar: counts the plans: one for each way and observation, and another of the first way.
    """
    actions, seconds, others = [], [], []
    warm = any(policy.sampling.warm_start is not None for policy in policies)
    with torch.inference_mode():
        for policy in policies:
            # Not counted: the first plan of a way allocates, and chooses algorithms.
            policy.draw(observations[:1], [0], see=False)
        for number, seen in enumerate(following(policies[0], observations) if warm else observations):
            drawn = [_draw_one(policy, seen, derive_seed("closeness", number), bar) for policy in policies]
            actions.append([one for one, _ in drawn])
            seconds.append([taken for _, taken in drawn])
            others.append(_draw_one(policies[0], seen, derive_seed("spread", number), bar)[0])
    every = np.array(actions).swapaxes(0, 1)
    return DrawnActions(every, np.array(seconds).T, float(np.abs(every[0] - np.array(others)).mean()))


def _draw_one(
    policy: CheckpointPolicy, seen: Observation, seed: int, bar: tqdm
) -> tuple[Float[np.ndarray, "A D"], float]:
    device = policy.model.device
    start = now(device)
    actions = policy.draw([seen], [seed], see=False)[0].actions.cpu().numpy()[0]
    if normalizer := policy.model.normalizer:
        actions = normalizer.clip(actions)
    taken = now(device) - start
    bar.update()
    return actions, taken


def at_most(off: Float[np.ndarray, "N"]) -> float:
    """The upper end of a one-sided 95 % interval of the mean, from at least two values."""
    n = len(off)
    return float(off.mean() + stdtrit(n - 1, CONFIDENCE) * off.std(ddof=1) / sqrt(n))
