"""Measures how fast a checkpoint plans, or a preset trains, on this device, and what the device could do."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from videopolicy import registry
from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.errors import UserError, check_range
from videopolicy.hardware import device_name, matmul_peak, peak_memory
from videopolicy.ownership import owned
from videopolicy.policies.benchmark import PlanBenchmark, count_weights, measure
from videopolicy.policies.checkpoint import CheckpointPolicy, Precision, make
from videopolicy.presets.base import Preset
from videopolicy.training.config import Precision as Passes
from videopolicy.training.distributed import engine
from videopolicy.training.performance.benchmark import measure as measure_training

GIGA = 1e9
MOST_REPEATS = 10**6
MOST_CLIPS = 2**16
# The options of one kind of measurement, which say nothing to the other, with their defaults.
PLANNING = {"steps": (), "sampler": (), "offload": False}
TRAINING = {"stage": None, "batch_size": None, "gradient_checkpointing": False, "profile": None}

# A recipe's names for the precisions.
PASSES: dict[Precision, Passes] = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Command:
    """Measure how long a checkpoint takes for one chunk of actions on this device, or a preset for a training step.

    The limit beside it is the best of some matrix products on the same device with the same threads. Only what is
    shown needs "decode": acting alone is faster by that much.

    Example: videopolicy bench --checkpoint runs/button/checkpoint --steps 1 3 10 --sampler euler one_pass

    Training, on clips in memory: videopolicy bench --train small --precision bfloat16 --profile step.json
    """

    checkpoint: Path | None = None
    """The checkpoint folder that training wrote: measures planning."""
    train: str | None = None
    """A preset: measures training, with random weights and clips."""
    steps: tuple[int, ...] = ()
    """Planning: one or more numbers of sampling steps; by default the checkpoint's own."""
    sampler: tuple[str, ...] = ()
    """Planning: one or more samplers, each with all of --steps; by default the checkpoint's own."""
    offload: bool = False
    """Planning: keep the model in main memory and fetch it to the GPU layer by layer: slow, but it fits a small GPU."""
    stage: Literal["video", "action", "joint", "end_to_end"] | None = None
    """Training: what learns; the preset's own if not given."""
    batch_size: int | None = None
    """Training: clips a step; the preset's own if not given."""
    gradient_checkpointing: bool = False
    """Training: recompute activations of the video model in the backward pass."""
    profile: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Training: also write a trace of one step here, for chrome://tracing or Perfetto."""
    repeats: int = 20
    """Plans or steps that are measured of each."""
    precision: Precision = "float32"
    """Of the weights in memory when planning; of the passes when training."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the figures to this file too."""

    def run(self) -> None:
        """Measures, and prints a table.

        Raises:
            UserError: neither a checkpoint nor a preset, or both; no such checkpoint, preset or sampler; a checkpoint
                that cannot act, a number that is not positive, or an option of the other kind.
        """
        choose_threads()
        self._check()
        with ExitStack() as stack:
            for path in (self.json, self.profile):
                if path:
                    stack.enter_context(owned(path, "bench", [self.checkpoint] if self.checkpoint else []))
            found = self._planning(self.checkpoint) if self.checkpoint else self._training()
            if self.json:
                write_json(self.json, found)

    def _check(self) -> None:
        if (self.checkpoint is None) == (self.train is None):
            raise UserError("give one of --checkpoint FOLDER, to measure planning, and --train PRESET, for training")
        others = TRAINING if self.checkpoint else PLANNING
        if given := [name for name, default in others.items() if getattr(self, name) != default]:
            option, what = given[0].replace("_", "-"), "training" if self.checkpoint else "planning"
            raise UserError(f"--{option} is about {what}; leave it out here")
        check_range("--repeats", self.repeats, 1, MOST_REPEATS)
        check_range("--batch-size", 1 if self.batch_size is None else self.batch_size, 1, MOST_CLIPS)
        for name in ("json", "profile"):
            path: Path | None = getattr(self, name)
            if path and not path.parent.is_dir():
                raise UserError(f"--{name} {path}: there is no folder {path.parent}")
            if path and path.is_dir():
                raise UserError(f"--{name} {path} is a folder; name a file")

    def _planning(self, checkpoint: Path) -> dict[str, Any]:
        first = make(checkpoint, precision=self.precision, offload=self.offload)
        model, own = first.model, first.sampling
        ways = list(product(self.sampler or (own.sampler,), self.steps or (own.steps,)))
        # All of them before the first is measured: a slip in the last would waste the others.
        policies = [CheckpointPolicy(model, replace(own, sampler=sampler, steps=steps)) for sampler, steps in ways]
        device = described(model.device)
        peak, weights = matmul_peak(model.device), count_weights(model)
        print(header(device, weights, peak), end="\n\n")
        figures = [measure(policy, self.repeats) for policy in policies]
        print(table(figures, peak))
        memory = peak_memory(model.device)
        print(f"most memory used: {memory / GIGA:.2f} GB")
        return {
            "checkpoint": str(checkpoint),
            "repeats": self.repeats,
            "device": device,
            "weights": weights,
            "peak_gflops": peak / GIGA,
            "precision": self.precision,
            "peak_memory_gb": memory / GIGA,
            "settings": [_rates(row) for row in figures],
        }

    def _training(self) -> dict[str, Any]:
        preset: Preset = registry.entry("presets", self.train or "")
        recipe = preset.training
        training = replace(
            recipe,
            stage=recipe.own_stage(self.stage) if self.stage else recipe.stage,
            batch_size=recipe.batch_size if self.batch_size is None else self.batch_size,
            precision=PASSES[self.precision],
            gradient_checkpointing=self.gradient_checkpointing or recipe.gradient_checkpointing,
        )
        place, dtype = engine(training.precision).device, getattr(torch, self.precision)
        device, before = described(place), matmul_peak(place, dtype)
        print(f"device   {_device(device)}")
        figures = measure_training(preset.model, training, self.repeats, self.profile)
        # A shared machine may be busier at one time than at the other.
        peak = max(before, matmul_peak(place, dtype))
        print(f"limit    {peak / GIGA:,.1f} GFLOP/s, the best {self.precision} matrix product")
        share = figures.flops_per_second / peak
        print(
            f"{training.stage.name}, batches of {figures.batch}: {figures.clips_per_second:.2f} clips/s, "
            f"{figures.step} ms a step, {figures.flops_per_second / GIGA:,.1f} GFLOP/s ({share:.1%} of the limit), "
            f"{figures.memory / GIGA:.2f} GB at most"
        )
        rates = {"clips_per_second": figures.clips_per_second, "gflops": figures.flops_per_second / GIGA}
        return {
            "preset": self.train,
            "stage": training.stage.name,
            "precision": self.precision,
            "gradient_checkpointing": training.gradient_checkpointing,
            "repeats": self.repeats,
            "device": device,
            "peak_gflops": peak / GIGA,
            "utilisation": share,
            **asdict(figures),
            **rates,
        }


def described(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "name": device_name(device),
        "type": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def header(device: Mapping[str, Any], weights: Mapping[str, int], peak: float) -> str:
    """What all settings share: the device, the size of each part, the limit."""
    sizes = ", ".join(f"{name} {_short(count)}" for name, count in weights.items())
    return "\n".join(
        (
            f"device   {_device(device)}",
            f"weights  {sizes}; {_short(sum(weights.values()))} in all",
            f"limit    {peak / GIGA:,.1f} GFLOP/s, the best fp32 matrix product",
        )
    )


def table(figures: Sequence[PlanBenchmark], peak: float) -> str:
    """A row for each setting, columns aligned; what the columns mean is below."""
    times = [*figures[0].parts, "total"]
    rows = [["sampler", "steps", *times, "chunks/s", "GFLOP", "GFLOP/s", "of limit"]]
    for row in figures:
        spreads = [str(spread) for spread in (*row.parts.values(), row.total)]
        speed = row.flops_per_second
        rates = [f"{row.chunks_per_second:.2f}", f"{row.flops / GIGA:.3f}"]
        rows.append([row.sampler, str(row.steps), *spreads, *rates, f"{speed / GIGA:.1f}", f"{speed / peak:.1%}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([*lines, "times in ms for one chunk: median (90th percentile); rates are at the median"])


def _device(device: Mapping[str, Any]) -> str:
    count = device["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if device["type"] == "cpu" else ""
    return f"{device['name']}{threads}, torch {device['torch']}"


def _short(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def _rates(figures: PlanBenchmark) -> dict[str, Any]:
    rates = {"chunks_per_second": figures.chunks_per_second, "gflops": figures.flops_per_second / GIGA}
    return {**asdict(figures), **rates}
