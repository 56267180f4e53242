"""A chunk of actions by the full-size model with random weights, beside a plain loop over the same modules.

A way of acting that is new is a row more in `MODES`.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from plain import PlainLoop
from shared import DEVICE, begin, chosen, observation, random_model

from videopolicy.diffusion.joint import Joint
from videopolicy.hardware import Timing, count_flops, matmul_peak, now, peak_memory, seconds_of
from videopolicy.models.base import Model
from videopolicy.models.sampling import Sampling
from videopolicy.policies.benchmark import Stopwatch
from videopolicy.policies.captured import Captured
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.training.performance.compile import compile_blocks

# Seconds that repeats of one row may take, and how many there are at least and at most.
REPEATING, FEWEST, MOST = 12.0, 3, 20
ONE_PASS = {"sampler": "one_pass"}


@dataclass(frozen=True)
class Mode:
    """A way of acting.

    Attributes:
        name: of its row.
        like: the row of the reference in float32 that it approximates: "exact" or "one_pass".
        sampling: what it changes of the preset's sampling.
        dtype: of the weights.
        prepare: is done to the model, once.
        captured: whether all passes are one CUDA graph.
    """

    name: str
    like: str
    sampling: dict[str, Any]
    dtype: torch.dtype = torch.bfloat16
    prepare: Callable[[Model], Any] | None = None
    captured: bool = False


# The preset's own sampling is the paper's: 30 steps, each guided.
REFERENCES = (
    Mode("exact", "exact", {}, torch.float32),
    Mode("one_pass", "one_pass", ONE_PASS, torch.float32),
)
# What changes the model comes last: all later rows would have it.
MODES = (
    Mode("exact", "exact", {}, torch.float16),
    Mode("exact", "exact", {}),
    Mode("one_pass", "one_pass", ONE_PASS),
    Mode("exact, captured", "exact", {}, captured=True),
    Mode("one_pass, captured", "one_pass", ONE_PASS, captured=True),
    Mode("exact, channels last", "exact", {}, prepare=lambda model: channels_last(model.backbone)),
    Mode("exact, channels last, captured", "exact", {}, captured=True),
    Mode("exact, compiled", "exact", {}, prepare=lambda model: compile_blocks(model.backbone)),
    Mode("exact, compiled and captured", "exact", {}, captured=True),
    Mode("one_pass, compiled and captured", "one_pass", ONE_PASS, captured=True),
)


def main() -> None:
    """The reference in float32, the plain loop in float16, then every mode, all of the same weights."""
    given, rows = begin(__doc__)
    measured = Measured(matmul_peak(DEVICE, torch.bfloat16), 1 if given.dry else MOST)
    model = random_model(chosen("svd", given.dry).model, torch.bfloat16)
    # What bfloat16 holds, float32 holds, too, and float16 but for the smallest numbers.
    weights = {name: value.cpu() for name, value in model.state_dict().items()}

    def bring(dtype: torch.dtype) -> dict[str, Any]:
        precise(model, dtype)
        model.load_state_dict(weights)
        return {"precision": str(dtype).removeprefix("torch.")}

    for mode in REFERENCES:
        rows.attempt(partial(measured.reference, mode, model), what=mode.name, **bring(mode.dtype))
    for like, once in (("exact", False), ("one_pass", True)):
        rows.attempt(partial(measured.plain, model, like, once), what=f"plain loop, {like}", **bring(torch.float16))
    for mode in MODES:
        rows.attempt(partial(measured.mode, mode, model), what=mode.name, **bring(mode.dtype))


def channels_last(module: torch.nn.Module) -> None:
    """Lays the weights of convolutions out as tensor cores want them; activations follow."""
    for kind, layout in ((torch.nn.Conv2d, torch.channels_last), (torch.nn.Conv3d, torch.channels_last_3d)):
        for part in module.modules():
            if isinstance(part, kind):
                part.to(memory_format=layout)


def precise(model: Model, dtype: torch.dtype) -> None:
    """Brings a model into another precision; its latents stay in float32."""
    latents = model.latents
    model.latents = torch.nn.Identity()  # type: ignore[assignment]
    model.to(dtype)
    model.latents = latents
    gc.collect()
    torch.cuda.empty_cache()


class Measured:
    """What rows are compared with.

    Attributes:
        peak: FLOP/s of the best matrix product in bfloat16.
        most: repeats of a row.
        truth: what float32 draws, by the reference's name.
        flops: of one chunk, likewise.
        plain_ms: of the plain loop, likewise.
    """

    def __init__(self, peak: float, most: int) -> None:
        self.peak, self.most = peak, most
        self.truth: dict[str, Joint] = {}
        self.flops: dict[str, int] = {}
        self.plain_ms: dict[str, float] = {}

    @torch.no_grad()
    def reference(self, mode: Mode, model: Model) -> dict[str, Any]:
        """Draws in float32, as exactly as the device can."""
        policy = acting(mode, model)
        tf32 = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            begun = now(DEVICE)
            self.truth[mode.like] = draw(policy).map(torch.Tensor.cpu)
            seconds = now(DEVICE) - begun
            self.flops[mode.like] = count_flops(partial(plan, policy))
        finally:
            torch.backends.cudnn.allow_tf32 = tf32
        return {"ms": 1e3 * seconds, "gflop": self.flops[mode.like] / 1e9}

    @torch.no_grad()
    def plain(self, model: Model, like: str, once: bool) -> dict[str, Any]:
        """The plain loop."""
        sampling = model.config.sampling
        loop = PlainLoop(model, sampling.steps, (sampling.sigma_min, sampling.sigma_max), once)
        guidance = sampling.guidance
        seen = observation(model.config)
        chunk = partial(loop.chunk, seen, (guidance.first, guidance.last))
        drawn = chunk()
        found = self._timed(chunk, like) | self._compared(drawn, like)
        self.plain_ms[like] = found["ms"]
        return found

    @torch.no_grad()
    def mode(self, mode: Mode, model: Model) -> dict[str, Any]:
        """A way of acting: the whole chunk, then its parts, each waiting for the one before it."""
        if mode.prepare:
            mode.prepare(model)
        policy = acting(mode, model)
        first = seconds_of(partial(plan, policy), DEVICE)
        found = self._timed(partial(plan, policy), mode.like) | {"first_ms": 1e3 * first}
        if mode.like in self.plain_ms:
            found["times_plain"] = self.plain_ms[mode.like] / found["ms"]
        found |= self._compared(draw(policy), mode.like)
        # Of a graph, no part can be timed by itself.
        return found if mode.captured else found | parts(policy, min(self.most, FEWEST))

    def _timed(self, chunk: Callable[[], Any], like: str) -> dict[str, Any]:
        """Of a chunk that has been drawn before."""
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats(DEVICE)
        once = seconds_of(chunk, DEVICE)
        repeats = int(min(self.most, max(FEWEST, REPEATING / once)))
        timing = Timing.of([seconds_of(chunk, DEVICE) for _ in range(repeats)])
        share = self.flops[like] * 1e3 / timing.median / self.peak if like in self.flops else None
        memory = {"of_bf16_matmul": share, "gb": peak_memory(DEVICE) / 1e9}
        return {"ms": timing.median, "ms_p95": timing.p95, "repeats": repeats, **memory}

    def _compared(self, drawn: Joint, like: str) -> dict[str, Any]:
        """How far video and actions are from float32's, as a share of their deviation (root mean square)."""
        if like not in self.truth:
            return {}
        off = drawn.map(torch.Tensor.cpu) - self.truth[like]
        pairs = {"video": (off.video, self.truth[like].video), "actions": (off.actions, self.truth[like].actions)}
        return {f"{name}_off": float(one.square().mean().sqrt() / of.std()) for name, (one, of) in pairs.items()}


def acting(mode: Mode, model: Model) -> CheckpointPolicy:
    """The policy of a mode."""
    sampling: Sampling = replace(model.config.sampling, **mode.sampling)
    policy = CheckpointPolicy(model, sampling)
    if mode.captured and DEVICE.type == "cuda":
        policy.sample = Captured(model, sampling)
    return policy


def plan(policy: CheckpointPolicy, imagine: bool = False) -> Any:
    """A chunk for one observation; acting needs no picture of what was imagined."""
    return policy.plan([observation(policy.model.config)], [0], imagine=imagine)


def draw(policy: CheckpointPolicy) -> Joint:
    """What a plan is made of, before it is clipped and decoded."""
    seen = observation(policy.model.config)
    condition = policy.model.condition(policy.encode([seen]), [seen.instruction])
    return policy.sample(condition, policy.noise([0]), see=True)


def parts(policy: CheckpointPolicy, repeats: int) -> dict[str, float]:
    """Milliseconds of each part, with the decoding of the video, which a chunk does without."""
    watch, seconds = Stopwatch(policy), []
    with watch.on():
        for _ in range(repeats):
            watch.reset()
            watch.time("whole", partial(plan, policy, imagine=True))
            seconds.append(watch.seconds)
    found = {part: Timing.of([row[part] for row in seconds]).median for part in (*watch.parts, "whole")}
    found["other"] = found["whole"] - sum(found[part] for part in watch.parts)
    return {f"{part}_ms": found[part] for part in (*watch.parts, "other")}


if __name__ == "__main__":
    main()
