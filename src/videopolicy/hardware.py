"""What this device is, what it can do, and what a computation costs it."""

import platform
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

# Side of the matrices that the limit is measured with: they fill the device, and take less than a second.
SIDE = {"cpu": 1024, "cuda": 8192}
MULTIPLICATIONS = 20


@dataclass(frozen=True)
class Timing:
    """A time over all repeats, in milliseconds: the median, and what 95 % of the repeats stay below."""

    median: float
    p95: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """The spread of these times."""
        return cls(float(np.median(seconds)) * 1e3, float(np.percentile(seconds, 95)) * 1e3)

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 1 if self.median < 1000 else 0
        return f"{self.median:.{digits}f} ({self.p95:.{digits}f})"


def now(device: torch.device) -> float:
    """Seconds of a clock, once the device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def seconds_of(run: Callable[[], Any], device: torch.device) -> float:
    """How long a call takes, its work on the device included."""
    start = now(device)
    run()
    return now(device) - start


def peak_memory(device: torch.device) -> int:
    """Bytes that were in use at most: on the GPU, or by this process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return process_memory()


def forget_peak_memory(device: torch.device) -> None:
    """Lets `peak_memory` of a GPU begin again; a process's own is counted since it began, whatever one does."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def process_memory() -> int:
    """Bytes of main memory that this process has held at most."""
    # Counted in bytes on a Mac, in kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of a call: matrix products, convolutions and attention; a multiply-add is two.

    Element-wise work, norms and resizing are not counted.
    """
    # The counter knows no fused attention of a CPU; as two matrix products it knows all.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def matmul_peak(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of the best of some matrix products: the most that this device does, now, with these threads.

    Args:
        device: a CPU or a GPU.
        dtype: of the matrices; float32 is TF32 on a GPU if convolutions are, as they are by default.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        side = SIDE[device.type]
        # Ones and zeros take less power, and a GPU then runs faster than it ever does on data.
        matrix = torch.randn(side, side, device=device, dtype=dtype)
        out = torch.empty_like(matrix)
        multiply = partial(torch.mm, matrix, matrix, out=out)
        multiply()
        fastest = min(seconds_of(multiply, device) for _ in range(MULTIPLICATIONS))
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * side**3 / fastest


def device_name(device: torch.device) -> str:
    """The device's name, as its vendor has it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
