"""Measures how fast a checkpoint plans on this device, and what the device could do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.errors import UserError, within
from videopolicy.hardware import device_name, matmul_peak, peak_memory
from videopolicy.policies.benchmark import Figures, count_weights, measure
from videopolicy.policies.video import Precision, VideoPlanner, make

GIGA = 1e9
MOST_REPEATS = 10**6


@dataclass(frozen=True)
class Command:
    """Measure how long a checkpoint takes for one chunk of actions on this device, and where the time goes.

    The limit beside it is the best of some matrix products on the same device with the same threads. Only what is
    shown needs "decode": acting alone is faster by that much.

    Example: videopolicy bench --checkpoint runs/button/checkpoint --steps 1 3 10 --sampler euler one_pass
    """

    checkpoint: Path
    """The checkpoint folder that training wrote."""
    steps: tuple[int, ...] = ()
    """One or more numbers of sampling steps; by default the checkpoint's own."""
    sampler: tuple[str, ...] = ()
    """One or more samplers, each with all of --steps; by default the checkpoint's own."""
    repeats: int = 20
    """Plans that are measured of each."""
    precision: Precision = "float32"
    """Of the weights in memory."""
    offload: bool = False
    """Keep the model in main memory and fetch it to the GPU layer by layer: slow, but it fits a small GPU."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the figures to this file too."""

    def run(self) -> None:
        """Measures, and prints a table.

        Raises:
            UserError: no such checkpoint or sampler, one that cannot act, or a number that is not positive.
        """
        choose_threads()
        within("--repeats", self.repeats, 1, MOST_REPEATS)
        if self.json and not self.json.parent.is_dir():
            raise UserError(f"--json {self.json}: there is no folder {self.json.parent}")
        if self.json and self.json.is_dir():
            raise UserError(f"--json {self.json} is a folder; name a file")
        first = make(self.checkpoint, precision=self.precision, offload=self.offload)
        policy, own = first.policy, first.sampling
        ways = list(product(self.sampler or (own.sampler,), self.steps or (own.steps,)))
        # All of them before the first is measured: a slip in the last would waste the others.
        planners = [VideoPlanner(policy, replace(own, sampler=sampler, steps=steps)) for sampler, steps in ways]
        device = {
            "name": device_name(policy.device),
            "type": policy.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        peak, weights = matmul_peak(policy.device), count_weights(policy)
        print(header(device, weights, peak), end="\n\n")
        figures = [measure(planner, self.repeats) for planner in planners]
        print(table(figures, peak))
        memory = peak_memory(policy.device)
        print(f"most memory used: {memory / GIGA:.2f} GB")
        if self.json:
            found = {
                "checkpoint": str(self.checkpoint),
                "repeats": self.repeats,
                "device": device,
                "weights": weights,
                "peak_gflops": peak / GIGA,
                "precision": self.precision,
                "peak_memory_gb": memory / GIGA,
                "settings": [_described(row) for row in figures],
            }
            write_json(self.json, found)


def header(device: Mapping[str, Any], weights: Mapping[str, int], peak: float) -> str:
    """What all settings share: the device, the size of each part, the limit."""
    sizes = ", ".join(f"{name} {_short(count)}" for name, count in weights.items())
    count = device["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if device["type"] == "cpu" else ""
    return "\n".join(
        (
            f"device   {device['name']}{threads}, torch {device['torch']}",
            f"weights  {sizes}; {_short(sum(weights.values()))} in all",
            f"limit    {peak / GIGA:,.1f} GFLOP/s, the best fp32 matrix product",
        )
    )


def table(figures: Sequence[Figures], peak: float) -> str:
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


def _short(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def _described(figures: Figures) -> dict[str, Any]:
    rates = {"chunks_per_second": figures.chunks_per_second, "gflops": figures.flops_per_second / GIGA}
    return {**asdict(figures), **rates}
