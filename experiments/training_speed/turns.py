"""What each change made of a training step on a CPU: steps of every variant by turns, each in a process of its own.

    python experiments/training_speed/turns.py --rounds 20

A variant undoes some of the changes, so that all run the same code otherwise. Times are compared within the run.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers.models.modeling_utils import get_parameter_dtype

from videopolicy import registry
from videopolicy.backbones.unet import PerFrameUNet
from videopolicy.clips.normalize import Normalizer
from videopolicy.hardware import device_name, matmul_peak
from videopolicy.training.config import Training
from videopolicy.training.distributed import ProcessGroup, engine
from videopolicy.training.ema import Ema
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective
from videopolicy.training.performance.benchmark import count_forward, random_clips
from videopolicy.training.prepare import build
from videopolicy.training.step import TrainStep

HERE = Path(__file__).parent
ACTIONS = Normalizer((-1.0,) * 4, (1.0,) * 4)
# Of glibc's `mallopt`, with its own values: freed memory goes back to the system.
AS_BEFORE = ((-1, 128 * 1024), (-2, 0), (-3, 128 * 1024))


@dataclass(frozen=True)
class Variant:
    """Which changes are in."""

    name: str
    fused: bool = True
    average: bool = True
    memory: bool = True
    direct: bool = True
    threads: int = 1


VARIANTS = (
    Variant("before", fused=False, average=False, memory=False, direct=False),
    Variant("+ AdamW in one pass over all weights", average=False, memory=False, direct=False),
    Variant("+ the average, too", memory=False, direct=False),
    Variant("+ freed memory is kept", direct=False),
    Variant("+ no walk through all modules for the precision"),
    Variant("+ half a batch on each of two threads", threads=2),
)


def work(preset: str, variant: Variant) -> None:
    """Takes a step for every line of its input, and says how long it took."""
    torch.set_num_threads(1)
    found = registry.entry("presets", preset)
    training: Training = found.training.resolve(found.model.sampling.sigma_max)
    model = build(found.model, ACTIONS, 0)
    step = TrainStep(Objective(model, training), training, engine(training.precision), ProcessGroup())
    ema, clips, numbers = Ema(model, training.ema_decay), random_clips(model, training.batch_size), count()
    if not variant.fused:
        for group in step.optimizer.param_groups:
            group["fused"] = None
    if not variant.memory:
        for parameter, value in AS_BEFORE:
            ctypes.CDLL(None).mallopt(parameter, value)
    if not variant.direct:
        patch.object(PerFrameUNet, "embed", _embed_as_before).start()

    def one() -> float:
        noise = draw_noise(model, training, clips, generator_of(0, next(numbers)))
        begun = time.perf_counter()
        step.gradient(clips, noise)
        step.update(1e-3)
        if variant.average:
            ema.update(10_000)
        else:
            for name, live in ema._live.items():
                ema.weights[name].lerp_(live.detach(), 1 - training.ema_decay)
        return time.perf_counter() - begun

    for _ in range(3):
        one()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(one(), flush=True)


def _embed_as_before(net: PerFrameUNet, noise: torch.Tensor) -> torch.Tensor:
    return net.time_embedding(net.time_proj(noise).to(get_parameter_dtype(net)))


def measure(preset: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant's steps, by turns."""
    workers = [_worker(preset, index) for index in range(len(VARIANTS))]
    for worker in workers:
        _answer(worker)
    seconds: dict[str, list[float]] = {variant.name: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, worker in zip(VARIANTS, workers, strict=True):
            print("go", file=worker.stdin, flush=True)
            seconds[variant.name].append(float(_answer(worker)))
    for worker in workers:
        worker.communicate()
    return seconds


def _worker(preset: str, index: int) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": str(VARIANTS[index].threads)}
    command = [sys.executable, __file__, "--preset", preset, "--work", str(index)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8", env=environment)


def _answer(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    assert line, "a variant's process ended; its error is above"
    return line


def table(seconds: dict[str, list[float]], limit_ms: float) -> str:
    """Median and fastest step of each variant, and how many times faster than before."""
    first = seconds[VARIANTS[0].name]
    rows = ["| steps with | median ms | fastest ms | times as fast (median of the rounds) |", "|---|---:|---:|---:|"]
    for name, taken in seconds.items():
        ratio = statistics.median(before / now for before, now in zip(first, taken, strict=True))
        rows.append(f"| {name} | {1e3 * statistics.median(taken):.0f} | {1e3 * min(taken):.0f} | {ratio:.2f} |")
    return "\n".join([*rows, f"| all products at one thread's measured fp32 rate | {limit_ms:.0f} | | |"])


def main() -> None:
    """Measures all variants of a preset, prints the table and keeps the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--preset", default="tiny")
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--work", type=int, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.work is not None:
        work(given.preset, VARIANTS[given.work])
        return
    torch.set_num_threads(1)
    found = registry.entry("presets", given.preset)
    training = found.training.resolve(found.model.sampling.sigma_max)
    flops = training.batch_size * count_forward(build(found.model, ACTIONS, 0), training)
    device = torch.device("cpu")
    before = matmul_peak(device)
    seconds = measure(given.preset, given.rounds)
    peak = max(before, matmul_peak(device))
    print(table(seconds, 1e3 * flops / peak))
    asked = ["git", "rev-parse", "HEAD"]
    facts: dict[str, Any] = {
        "command": f"python experiments/training_speed/turns.py --preset {given.preset} --rounds {given.rounds}",
        "commit": subprocess.check_output(asked, cwd=HERE, encoding="utf-8").strip(),
        "processor": device_name(device),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "peak_gflops": peak / 1e9,
        "step_gflop": flops / 1e9,
        "variants": [asdict(variant) | {"seconds": seconds[variant.name]} for variant in VARIANTS],
    }
    (HERE / f"{given.preset}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
