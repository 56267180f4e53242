"""A plan for two observations at once by every preset with each sampler in bf16, and one of them compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from shared import DEVICE, begin, demand, observation, presets, random_model

from videopolicy import registry
from videopolicy.hardware import now
from videopolicy.models.base import Model
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.training.performance.compile import compile_blocks

COMPILED = "small"
# Enough for a sampler to go from one level to another, and from one to none.
STEPS = 2


def main() -> None:
    """A row for each."""
    given, rows = begin(__doc__)
    every = presets(given.dry)
    for name, preset in every.items():
        model = random_model(preset.model, torch.bfloat16)
        for sampler in registry.names("samplers"):
            rows.attempt(partial(plan, model, sampler), preset=name, sampler=sampler)
        del model
    build = partial(random_model, every[COMPILED].model, torch.bfloat16)
    rows.attempt(partial(compiled, build), preset=COMPILED, sampler="euler, compiled")


def plan(model: Model, sampler: str) -> dict[str, Any]:
    """Plans twice, and times the second time."""
    policy = CheckpointPolicy(model, model.config.sampling.changed(sampler=sampler, steps=STEPS))
    seen = [observation(model.config, seed) for seed in (0, 1)]
    draw = partial(policy.plan, seen, [0, 1], imagine=True)
    draw()
    begun = now(DEVICE)
    plans = draw()
    ms = 1e3 * (now(DEVICE) - begun)
    actions = np.stack([one.actions for one in plans])
    demand(bool(np.isfinite(actions).all()), "actions that are not finite")
    demand(not np.array_equal(actions[0], actions[1]), "the same actions whatever is seen")
    return {"ms": ms, "action_deviation": float(actions.std())}


def compiled(build: Callable[[], Model]) -> dict[str, Any]:
    """The same with the blocks of the video model compiled."""
    model = build()
    compile_blocks(model.backbone)
    return plan(model, "euler")


if __name__ == "__main__":
    main()
