"""Text: instructions as tokens for the video model's cross-attention."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Of instructions that anybody may send, those that are remembered.
MOST_REMEMBERED = 256


class Text(nn.Module, ABC):
    """Instructions -> tokens.

    Attributes:
        width: W, of a token.
        pretrained: whether it requires pretrained weights.
    """

    width: int
    pretrained: ClassVar[bool] = False
    _stays: bool = False

    @abstractmethod
    def forward(self, instructions: Sequence[str]) -> Float[Tensor, "b L W"]:
        """Tokens of each instruction; the empty instruction gives zeros, which stand for "unconditional"."""

    def tell(self, instructions: Sequence[str], device: torch.device) -> Float[Tensor, "b L W"]:
        """What `forward` gives, on a device."""
        return self(instructions).to(device)

    def stay_open(self) -> None:
        """From now on anybody says what to do: a new instruction costs as little as it can, and nothing that stays.

        An encoder that is opened for new instructions stays open; what is made of them is remembered of the last
        `MOST_REMEMBERED` alone, and kept nowhere else.
        """
        self._stays = True


def forget_first(known: dict[str, Tensor]) -> None:
    """Forgets what was learnt first, but for the last `MOST_REMEMBERED`."""
    for instruction in list(known)[: max(0, len(known) - MOST_REMEMBERED)]:
        del known[instruction]
