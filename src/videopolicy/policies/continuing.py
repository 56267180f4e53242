"""Plans that go on from earlier ones: what a head that learnt to continue is given, and what guides another."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.inpainting import Earlier, soft_mask
from videopolicy.models.base import Model
from videopolicy.progress import say
from videopolicy.types import Observation

# What is left of an observation's earlier plans as the model has actions, one whole chunk.
Planned = Callable[[Observation], Float32[np.ndarray, "A D"]]


def going_on(
    condition: Condition, model: Model, observations: Sequence[Observation], planned: Planned, inpaint: float | None
) -> Condition:
    """The condition with what earlier plans hold for the steps of the chunks.

    Args:
        condition: of these observations.
        model: that acts.
        observations: what is seen, with `planned` and `committed` where a plan came before.
        planned: the chunk that an observation's `planned` begins.
        inpaint: weight of the guidance, for a head that has not learnt to continue; None leaves it alone.
    """
    most = model.config.committed
    if not most and inpaint is None:
        return condition
    left = [0 if seen.planned is None else len(seen.planned) for seen in observations]
    chunk, width = model.config.window.actions, model.action_width
    blank = np.zeros((chunk, width), np.float32)
    chunks = [planned(seen) if count else blank for seen, count in zip(observations, left, strict=True)]
    actions = torch.from_numpy(np.stack(chunks)).to(model.device)
    first = [min(seen.committed, count) for seen, count in zip(observations, left, strict=True)]
    if most:
        _note_beyond(max(first), most)
        return condition.commit(actions, torch.tensor([min(count, most) for count in first]))
    weights = torch.stack([soft_mask(*counts, chunk) for counts in zip(first, left, strict=True)])
    limit: Tensor = actions.new_full((len(actions),), inpaint or 0.0)
    return replace(condition, earlier=Earlier(actions, weights.to(actions), limit))


@cache
def _note_beyond(asked: int, learnt: int) -> None:
    """Says once that more actions are committed than the head learnt to continue."""
    if asked > learnt:
        say(
            f"note: {asked} actions are executed before a plan arrives, but the head learnt to go on from {learnt}; it "
            "is told of no more"
        )
