"""Measures how fast a checkpoint plans, or a preset trains, on this device, and what the device could do."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from videopolicy import registry
from videopolicy.cli._files import write_json
from videopolicy.cli._planning import GIGA, figures, tables, to_rows
from videopolicy.cli._threads import choose_threads
from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError, check_range
from videopolicy.hardware import device_name, matmul_peak
from videopolicy.ownership import owned
from videopolicy.policies.benchmark import count_weights
from videopolicy.policies.checkpoint import Precision, make
from videopolicy.presets.base import Preset
from videopolicy.rollout.protocols import MOST_EPISODES
from videopolicy.training.config import Precision as Passes
from videopolicy.training.distributed import engine
from videopolicy.training.performance.benchmark import measure as measure_training
from videopolicy.tuning.success import open_starts
from videopolicy.tuning.ways import Way, reference, ways

EPISODES = 20
MOST_REPEATS = 10**6
MOST_CLIPS = 2**16
# The options of one kind of measurement, which say nothing to the other, with their defaults.
SETTINGS = ("sampler", "steps", "video_steps", "video_until", "reuse", "warm_start")
PLANNING = {
    **dict.fromkeys(("mode", *SETTINGS), ()),
    "reference": None,
    "env": None,
    "task": (),
    "episodes": None,
    "out": None,
    "offload": False,
}
TRAINING = {"stage": None, "batch_size": None, "gradient_checkpointing": False, "profile": None}

# A recipe's names for the precisions.
PASSES: dict[Precision, Passes] = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Command:
    """Measure how long a checkpoint takes for one chunk of actions on this device, or a preset for a training step.

    The limit beside it is the best of some matrix products on the same device with the same threads. Acting needs no
    video decoded; the whole plan does.

    Example: videopolicy bench --checkpoint runs/button/checkpoint --mode exact fast --reference 30

    Other settings: videopolicy bench --checkpoint runs/button/checkpoint --steps 1 3 10 --sampler euler one_pass

    Training, on clips in memory: videopolicy bench --train small --precision bfloat16 --profile step.json
    """

    checkpoint: Path | None = None
    """The checkpoint folder that training wrote: measures planning."""
    train: str | None = None
    """A preset: measures training, with random weights and clips."""
    mode: tuple[str, ...] = ()
    """Planning: one or more of the checkpoint's modes; all of them if no other way to sample is given."""
    steps: tuple[int, ...] = ()
    """Planning: one or more numbers of sampling steps; by default mode exact's own."""
    sampler: tuple[str, ...] = ()
    """Planning: one or more samplers, each with all of --steps; by default mode exact's own."""
    video_steps: tuple[int, ...] = ()
    """Planning: one or more numbers of sampling steps for the video; by default mode exact's own."""
    video_until: tuple[float, ...] = ()
    """Planning: one or more noise levels at which the video stops, for sampler cascade."""
    reuse: tuple[int, ...] = ()
    """Planning: one or more numbers of steps, of which the first alone runs the deep blocks of the video model."""
    warm_start: tuple[float, ...] = ()
    """Planning: one or more noise levels at which a plan goes on from the one before."""
    reference: int | None = None
    """Planning: first so many of Euler's steps with the paper's guidance, 1 to 2.5, which the ratios then refer to."""
    env: str | None = None
    """Planning: an env to act in, to measure success in every way."""
    task: tuple[str, ...] = ()
    """Planning: one or more tasks of the env."""
    episodes: int | None = limited(None, 1, MOST_EPISODES)
    """Planning: episodes of each task, 20 by default; every way begins in the same states."""
    out: Path | None = None
    """Planning: keep the evaluations here, a folder for each way, and go on with those that it holds."""
    offload: bool = False
    """Planning: keep the model in main memory and fetch it to the GPU layer by layer: slow, but it fits a small GPU."""
    stage: Literal["video", "action", "joint", "attached", "end_to_end"] | None = None
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
        check_limits(self)
        if (self.env is None) != (not self.task):
            raise UserError("--env and --task go together: give both, or neither")
        if self.env is None and (self.episodes is not None or self.out is not None):
            raise UserError("--episodes and --out are of episodes: give --env and --task, or leave them out")
        check_range("--repeats", self.repeats, 1, MOST_REPEATS)
        check_range("--batch-size", 1 if self.batch_size is None else self.batch_size, 1, MOST_CLIPS)
        for name in ("json", "profile"):
            path: Path | None = getattr(self, name)
            if path and not path.parent.is_dir():
                raise UserError(f"--{name} {path}: there is no folder {path.parent}")
            if path and path.is_dir():
                raise UserError(f"--{name} {path} is a folder; name a file")

    def _planning(self, checkpoint: Path) -> dict[str, Any]:
        policy = make(checkpoint, precision=self.precision, offload=self.offload)
        model, config = policy.model, policy.model.config
        chosen: list[Way] = [] if self.reference is None else [reference(config, self.reference)]
        chosen += ways(config, self.mode, {name: getattr(self, name) for name in SETTINGS})
        episodes = EPISODES if self.episodes is None else self.episodes
        with open_starts(self.env, self.task, checkpoint, self.out, policy, episodes) as starts:
            device = described(model.device)
            peak, weights = matmul_peak(model.device), count_weights(model)
            print(header(device, weights, peak), end="\n\n")
            found = figures(policy, chosen, self.repeats, starts, episodes)
        # A shared machine may be busier at one time than at the other.
        peak = max(peak, matmul_peak(model.device))
        print(tables(found, peak))
        return {
            "checkpoint": str(checkpoint),
            "repeats": self.repeats,
            "device": device,
            "weights": weights,
            "peak_gflops": peak / GIGA,
            "precision": self.precision,
            "env": self.env,
            "tasks": self.task,
            "settings": to_rows(found, peak),
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


def _device(device: Mapping[str, Any]) -> str:
    count = device["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if device["type"] == "cpu" else ""
    return f"{device['name']}{threads}, torch {device['torch']}"


def _short(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
