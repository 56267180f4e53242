"""How fast a run learns, what it waits for, and how much memory it takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from videopolicy.hardware import process_memory


class ThroughputMeter:
    """Times the steps between two lines of the log; what is done between steps does not count.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._clear()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block, which begins a step, the run waits for its data."""
        self._begun = self._clock()
        yield
        self._waited += self._clock() - self._begun

    def step(self) -> None:
        """A step has ended."""
        self._steps += 1
        self._busy += self._clock() - self._begun

    def read(self, batch: int) -> dict[str, float]:
        """What the steps since the last reading came to.

        Args:
            batch: clips a step, over all processes.

        Returns:
            "clips_a_second"; "waiting", the share of the time that this process waited for data.
        """
        found = {"clips_a_second": batch * self._steps / self._busy, "waiting": self._waited / self._busy}
        self._clear()
        return {name: round(value, 4) for name, value in found.items()}

    def _clear(self) -> None:
        self._begun, self._waited, self._busy, self._steps = 0.0, 0.0, 0.0, 0


def memory(device: torch.device) -> dict[str, float]:
    """The most memory that this process has held so far, in GB.

    Returns:
        "memory_gb" of the machine; "cuda_gb" of the GPU, if it computes on one.
    """
    found = {"memory_gb": process_memory() / 1e9}
    if device.type == "cuda":
        found["cuda_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return {name: round(value, 3) for name, value in found.items()}
