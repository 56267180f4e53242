"""Text by Cosmos-Reason1-7B (NVIDIA 2025, arXiv 2503.15558), pretrained: what Cosmos-Predict2.5 was trained with.

It is a Qwen2.5-VL, of which the language tower alone is read: no image is shown to it. The hidden states behind all of
its blocks, each normed, stand side by side as one token (NVIDIA 2025, arXiv 2511.00062): 28 of 3584 numbers, 100,352.
The video transformer projects them itself.

An instruction takes 512 such tokens, 103 MB in bfloat16, the encoder's own precision, in which they are kept. Those of
the padding cannot be left out: the tower reads them behind the instruction and the transformer attends to them, so that
they differ with it. A machine keeps each instruction once on disk, maps it into memory instead of reading it, and moves
it to the device once a batch, however many clips share it.

No words are zeros, as they were where training hid the text from Cosmos-Predict2.5. What the encoder makes of an empty
sentence is another thing: the words around it, and padding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.configs import limited
from videopolicy.errors import UserError
from videopolicy.text.encoder import EncodedText, EncoderConfig, EncoderKind

# What the instruction was said behind, in training and in diffusers' pipeline.
SYSTEM = "You are a helpful assistant who will provide prompts to an image generator."
# Keeps the norm of a constant finite.
EPSILON = 1e-8


def _width(facts: Mapping[str, Any]) -> int:
    """Older descriptions have what is told of the language tower among what is told of the whole."""
    tower = facts.get("text_config") or {}
    hidden, blocks = (tower[fact] if fact in tower else facts[fact] for fact in ("hidden_size", "num_hidden_layers"))
    return hidden * blocks


@dataclass(frozen=True)
class Config(EncoderConfig):
    """See `EncoderConfig`; the defaults are those of Cosmos-Predict2.5."""

    source: str = "nvidia/Cosmos-Predict2.5-2B@diffusers/base/post-trained"
    width: int = limited(100_352, 1, 2**20)

    def build(self) -> "Reason1":
        """The text; its encoder is not opened before an instruction is new."""
        return Reason1(self)


class Reason1(EncodedText):
    """Normed hidden states of all blocks, padding included, in the encoder's precision; zeros for no instruction."""

    kind = EncoderKind(
        "reason1",
        "Qwen2.5-VL",
        {"qwen2_5_vl": "Qwen2_5_VLTextModel"},
        _width,
        names={r"^model\.language_model\.": "model."},
    )

    def _marks(self) -> tuple[Any, ...]:
        return self.kind.plugin, self.config.length

    def _encode(
        self, tokenizer: Any, encoder: Any, instructions: Sequence[str]
    ) -> Iterator[tuple[str, Float[Tensor, "L W"]]]:
        if tokenizer.chat_template is None or tokenizer.pad_token_id is None:
            raise UserError(
                f"{self.config.source}: its tokenizer has no chat template, or no token for padding; take that of "
                "Qwen2.5-VL-7B-Instruct"
            )
        for instruction in instructions:
            numbers = self._numbers(tokenizer, instruction)
            self._check_length(instruction, len(numbers))
            # Without a mask, as the padding was read in training, too.
            states = encoder(input_ids=torch.tensor([numbers]), output_hidden_states=True).hidden_states
            # The first are the embeddings, which no block has seen.
            yield instruction, torch.cat([_normed(state[0]) for state in states[1:]], -1)

    def _numbers(self, tokenizer: Any, instruction: str) -> list[int]:
        said = [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("system", SYSTEM), ("user", instruction))
        ]
        return tokenizer.apply_chat_template(
            said,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=False,
            add_vision_id=False,
            padding="max_length",
            max_length=self.config.length,
            truncation=False,
        )["input_ids"]


def _normed(states: Float[Tensor, "L d"]) -> Float[Tensor, "L d"]:
    return (states - states.mean(-1, keepdim=True)) / (states.std(-1, keepdim=True) + EPSILON)
