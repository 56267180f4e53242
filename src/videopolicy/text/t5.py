"""Text by encoders of T5's family (Raffel et al. 2020, arXiv 1910.10683), pretrained: one row of tokens an instruction.

Cosmos-Predict2 was trained with T5-11B and Wan with UMT5-XXL (Chung et al. 2023, arXiv 2304.09151).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from videopolicy.configs import limited
from videopolicy.text.encoder import EncodedText, EncoderConfig, EncoderKind


@dataclass(frozen=True)
class Config(EncoderConfig):
    """See `EncoderConfig`; the defaults are those of Cosmos-Predict2."""

    source: str = "nvidia/Cosmos-Predict2-2B-Video2World"
    width: int = limited(1024, 1, 2**20)

    def build(self) -> "T5":
        """The text; its encoder is not opened before an instruction is new."""
        return T5(self)


class T5(EncodedText):
    """The encoder's last hidden states, in float32 whatever its precision; zeros for the empty instruction."""

    kind = EncoderKind(
        "t5", "T5's family", {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}, lambda facts: facts["d_model"]
    )

    def empty_prompt(self) -> Float32[Tensor, "W"]:
        """The token that the encoder makes of the empty instruction: its end.

        Raises:
            UserError: see `forward`.
        """
        self._learn([""] if "" not in self._known else [])
        return self._known[""][0]

    def _encode(
        self, tokenizer: Any, encoder: Any, instructions: Sequence[str]
    ) -> Iterator[tuple[str, Float32[Tensor, "n W"]]]:
        for instruction in instructions:
            numbers = tokenizer(instruction).input_ids
            self._check_length(instruction, len(numbers))
            # Without padding, which is zeros behind the encoder.
            yield instruction, encoder(input_ids=torch.tensor([numbers])).last_hidden_state[0].float()
