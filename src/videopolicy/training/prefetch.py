"""What a step needs, made by a thread while the device computes the step before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from videopolicy.clips.dataset import ClipBatch
from videopolicy.training.noise import StepNoise


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch and what is random in its step.

    Attributes:
        batch: the clips of all processes.
        noise: theirs.
    """

    batch: ClipBatch
    noise: StepNoise

    def pinned(self, device: torch.device) -> "Prepared":
        """The same in memory that this GPU reads by itself while the CPU goes on."""
        # A thread begins on the first GPU, whichever is its process's.
        with torch.cuda.device(device):
            values = {field.name: getattr(self.batch, field.name) for field in fields(self.batch)}
            arrays = {
                name: torch.from_numpy(value).pin_memory().numpy()
                for name, value in values.items()
                if isinstance(value, np.ndarray)
            }
            return Prepared(replace(self.batch, **arrays), self.noise.map(Tensor.pin_memory))


class Prefetcher:
    """Makes one step ahead of whoever takes, in the same order; its thread ends with the block."""

    def __init__(self, make: Callable[[int], Prepared], stop: int) -> None:
        """Nothing is made yet.

        Args:
            make: of a step; depends on nothing that a step changes.
            stop: nothing is made ahead of this step, which nobody will take.
        """
        self._make, self._stop = make, stop
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._next: Future[Prepared] | None = None

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, step: int) -> Prepared:
        """What a step needs; begins with that of the one after it, if there will be one.

        Args:
            step: the first at will, then each the one after the last.

        Raises:
            Exception: whatever making it raised.
        """
        found = (self._next or self._pool.submit(self._make, step)).result()
        self._next = self._pool.submit(self._make, step + 1) if step + 1 < self._stop else None
        return found
