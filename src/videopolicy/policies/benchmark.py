"""How long a policy takes for one chunk, and how far that is from what the device can do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from videopolicy.hardware import Timing, count_flops, forget_peak_memory, now, peak_memory, seconds_of
from videopolicy.models.base import Model
from videopolicy.models.sampling import Sampling
from videopolicy.policies.base import derive_seed
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.progress import progress_bar
from videopolicy.types import Observation

WARM_UP = 3
# A model's methods whose time is a part's; none of them calls another. They are no part of the contract of a model: one
# without them is timed as a whole, between the encoding and the decoding of its images.
MODEL_METHODS = {
    **dict.fromkeys(("denoise_video", "read_present", "encode_known", "denoise_pixels"), "video"),
    **dict.fromkeys(("pool_features", "denoise_actions"), "action"),
}


@dataclass(frozen=True)
class PlanBenchmark:
    """One chunk, drawn in one way.

    Attributes:
        sampling: how it was drawn.
        execute: actions of it that are executed before the next is asked for.
        first: milliseconds of the first plan of this way in this process; what ran before it has warmed what is shared.
        parts: time of each part that the model tells apart ("encode", "video", "action" and "decode" of one with a
            head), and of "other": noise, text, the sampler's arithmetic, and whatever the model does besides.
        acting: a plan of which no video is decoded, as a robot needs it.
        whole: the same with its video decoded; its parts add up to it.
        flops: of one plan for acting, as `videopolicy.hardware.count_flops` counts them.
        memory: bytes in use at most: on a GPU while this way was measured, on a CPU by the process so far.
    """

    sampling: Sampling
    execute: int
    first: float
    parts: dict[str, Timing]
    acting: Timing
    whole: Timing
    flops: int
    memory: int

    @property
    def control_rate(self) -> float:
        """Actions that are executed a second of planning, at the median time of acting."""
        return self.execute * 1e3 / self.acting.median

    @property
    def flops_per_second(self) -> float:
        """At the median time of acting."""
        return self.flops * 1e3 / self.acting.median


def measure(policy: CheckpointPolicy, repeats: int) -> PlanBenchmark:
    """Plans one chunk again and again, one at a time, after a few plans that are not counted.

    With a warm start, all but the first go on from an earlier plan.

    Plans for acting and whole ones take turns. On a GPU every part of a whole one waits for the one before it, so that
    each gets its own time; the whole includes these waits, acting does not.

    Args:
        policy: what plans, and how it samples.
        repeats: plans that are counted, at least 1.
    """
    observations = random_observations(policy, 1)
    plan, device = partial(policy.plan, seeds=[0]), policy.model.device
    watch, acting, rows = Stopwatch(policy), [], []
    forget_peak_memory(device)
    with torch.inference_mode():
        first = seconds_of(partial(plan, observations, imagine=False), device) * 1e3
        if policy.sampling.warm_start is not None:
            observations = following(policy, observations)
        act, show = partial(plan, observations, imagine=False), partial(plan, observations, imagine=True)
        flops = count_flops(act)
        for _ in range(WARM_UP):
            show()
        for _ in progress_bar(range(repeats), desc=str(policy.sampling), leave=False):
            acting.append(seconds_of(act, device))
            with watch.on():
                watch.reset()
                watch.time("whole", show)
            rows.append(watch.seconds)
    for row in rows:
        row["other"] = row["whole"] - sum(row[part] for part in watch.parts)
    timings = {part: Timing.of([row[part] for row in rows]) for part in (*watch.parts, "other", "whole")}
    whole = timings.pop("whole")
    return PlanBenchmark(
        policy.sampling, policy.spec.execute, first, timings, Timing.of(acting), whole, flops, peak_memory(device)
    )


def random_observations(policy: CheckpointPolicy, count: int) -> list[Observation]:
    """Images of even noise, the same for every policy of these views and this size."""
    spec, rng = policy.spec, np.random.default_rng(0)
    shape = (spec.size, spec.size, 3)
    # Which word is said makes no difference to the time.
    return [
        Observation({view: rng.integers(0, 256, shape, dtype=np.uint8) for view in spec.views}, "go", policy.origin)
        for _ in range(count)
    ]


def following(policy: CheckpointPolicy, observations: Sequence[Observation]) -> list[Observation]:
    """The same, as they come after plans for them which the policy draws from other noise."""
    seeds = [derive_seed("before", row) for row in range(len(observations))]
    plans = policy.plan(observations, seeds, imagine=False)
    return [replace(seen, planned=plan.actions) for seen, plan in zip(observations, plans, strict=True)]


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
        self.seconds: dict[str, float] = dict.fromkeys((*self.parts, "whole"), 0.0)

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
