"""An exponential moving average of weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """The average of a module's learning weights over training; where they are spread over processes, so is it.

    Attributes:
        weights: name -> average, of the parameters that require gradients.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.weights = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights after `step` steps in; early on the average is short, so that it forgets the start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        # One call for all weights: one for each took a third longer.
        get_ema_multi_avg_fn(decay)(list(self.weights.values()), list(self._live.values()), None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the module holds the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, live in self._live.items():
            kept = live.detach().clone()
            live.copy_(self.weights[name])
            self.weights[name].copy_(kept)
