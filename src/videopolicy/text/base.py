"""Text: instructions as tokens for the video model's cross-attention."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Text(nn.Module, ABC):
    """Instructions -> tokens.

    Attributes:
        width: W, of a token.
        pretrained: whether it requires pretrained weights.
    """

    width: int
    pretrained: ClassVar[bool] = False

    @abstractmethod
    def forward(self, instructions: Sequence[str]) -> Float[Tensor, "b L W"]:
        """Tokens of each instruction; the empty instruction gives zeros, which stand for "unconditional"."""

    def tell(self, instructions: Sequence[str], device: torch.device) -> Float[Tensor, "b L W"]:
        """What `forward` gives, on a device."""
        return self(instructions).to(device)
