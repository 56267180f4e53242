"""How long a policy takes for one chunk, and how far that is from what the device can do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from videopolicy.hardware import Timing, count_flops, now
from videopolicy.models.base import Model
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.progress import progress_bar
from videopolicy.types import Observation

WARM_UP = 3
# A model's methods whose time is a part's; none of them calls another. They are no part of the contract of a model: one
# without them is timed as a whole, between the encoding and the decoding of its images.
MODEL_METHODS = {"denoise_video": "video", "pool_features": "action", "denoise_actions": "action"}


@dataclass(frozen=True)
class PlanBenchmark:
    """One chunk, drawn in one way.

    Attributes:
        sampler: how it was drawn.
        steps: noise levels.
        parts: time of each part that the model tells apart ("encode", "video", "action" and "decode" of one with a
            head), and of "other": noise, text, the sampler's arithmetic, and whatever the model does besides.
        total: the whole plan, its video decoded.
        flops: of one plan, as `videopolicy.hardware.count_flops` counts them.
    """

    sampler: str
    steps: int
    parts: dict[str, Timing]
    total: Timing
    flops: int

    @property
    def chunks_per_second(self) -> float:
        """At the median time."""
        return 1e3 / self.total.median

    @property
    def flops_per_second(self) -> float:
        """At the median time."""
        return self.flops * self.chunks_per_second


def measure(policy: CheckpointPolicy, repeats: int) -> PlanBenchmark:
    """Plans one chunk again and again, one at a time, after a few plans that are not counted.

    On a GPU every part waits for the one before it, so that each gets its own time; the total includes these waits.

    Args:
        policy: what plans, and how it samples.
        repeats: plans that are counted, at least 1.
    """
    spec, rng = policy.spec, np.random.default_rng(0)
    images = {view: rng.integers(0, 256, (spec.size, spec.size, 3), dtype=np.uint8) for view in spec.views}
    # Which word is said makes no difference to the time.
    plan = partial(policy.plan, [Observation(images, "go", policy.origin)], [0], imagine=True)
    sampling, watch, rows = policy.sampling, Stopwatch(policy), []
    with torch.inference_mode():
        flops = count_flops(plan)
        for _ in range(WARM_UP):
            plan()
        with watch.on():
            for _ in progress_bar(range(repeats), desc=f"{sampling.sampler} {sampling.steps}", leave=False):
                watch.reset()
                watch.time("total", plan)
                rows.append(watch.seconds)
    for row in rows:
        row["other"] = row["total"] - sum(row[part] for part in watch.parts)
    parts = {part: Timing.of([row[part] for row in rows]) for part in (*watch.parts, "other")}
    return PlanBenchmark(sampling.sampler, sampling.steps, parts, Timing.of([row["total"] for row in rows]), flops)


def count_weights(model: Model) -> dict[str, int]:
    """Numbers that a checkpoint holds for each part, what the latents were fitted to included."""
    parts = {"latents": (model.latents,), "text": (model.text,), "video": (model.backbone,)}
    parts |= {"head": model.action_modules}
    return {
        name: sum(t.numel() for module in modules for t in module.state_dict().values())
        for name, modules in parts.items()
    }


class Stopwatch:
    """Adds up the time of each part of a plan.

    Attributes:
        parts: what is told apart, in the order in which it happens.
        seconds: part -> its time since the last reset.
    """

    def __init__(self, policy: CheckpointPolicy) -> None:
        self._device = policy.model.device
        self._watched = [
            (owner, method, part)
            for owner, method, part in (
                (policy, "encode", "encode"),
                *((policy.model, method, part) for method, part in MODEL_METHODS.items()),
                (policy, "decode", "decode"),
            )
            if hasattr(owner, method)
        ]
        self.parts = tuple(dict.fromkeys(part for _, _, part in self._watched))
        self.reset()

    def reset(self) -> None:
        """Starts a new record; the old one stays as it is."""
        self.seconds: dict[str, float] = dict.fromkeys((*self.parts, "total"), 0.0)

    def time(self, part: str, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls, and adds the time to this part's."""
        start = now(self._device)
        result = run(*args, **kwargs)
        self.seconds[part] += now(self._device) - start
        return result

    @contextmanager
    def on(self) -> Iterator[None]:
        """Times the parts of every plan made inside; policy and model are as before afterwards."""
        for owner, method, part in self._watched:
            setattr(owner, method, partial(self.time, part, getattr(owner, method)))
        try:
            yield
        finally:
            # What was set on the object hid the method of its class.
            for owner, method, _ in self._watched:
                delattr(owner, method)
