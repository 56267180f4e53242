"""Text from nothing: every word is hashed into a bucket, and each bucket's embedding is learned."""

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError
from videopolicy.text.base import Text


@dataclass(frozen=True)
class Config:
    """Hashed words.

    Attributes:
        width: of a token.
        buckets: embeddings that the words share.
        length: tokens of an instruction; also the most words that it may have.
    """

    width: int = limited(64, 1, 2**16)
    buckets: int = limited(1024, 1, 2**24)
    length: int = limited(32, 1, 2**16)

    def __post_init__(self) -> None:
        check_limits(self, "text")

    def build(self) -> "HashedWords":
        """The text encoder, not trained."""
        return HashedWords(self)


class HashedWords(Text):
    """One token a word: the embedding of its bucket plus that of its place; zeros where there is no word.

    Case and punctuation do not matter. The hash is CRC-32, the same in every process and on every machine.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.width = config.width
        self.buckets = config.buckets
        self.length = config.length
        self.words = nn.Embedding(config.buckets, config.width)
        self.places = nn.Parameter(torch.randn(config.length, config.width))

    def forward(self, instructions: Sequence[str]) -> Float[Tensor, "b L W"]:
        """Tokens of each instruction, zeros after its last word.

        Raises:
            UserError: an instruction has more words than there are tokens: cut, it could read like another one.
        """
        buckets = torch.full((len(instructions), self.length), -1)
        for row, instruction in zip(buckets, instructions, strict=True):
            words = self._split(instruction)
            row[: len(words)] = torch.tensor([zlib.crc32(word.encode()) % self.buckets for word in words])
        buckets = buckets.to(self.places.device)
        tokens = self.words(buckets.clamp(min=0)) + self.places
        return tokens * (buckets >= 0).unsqueeze(-1)

    def _split(self, instruction: str) -> list[str]:
        # Typed on some systems, an accent is a character of its own, which would end the word.
        words = re.findall(r"\w+", unicodedata.normalize("NFC", instruction).lower())
        if len(words) > self.length:
            raise UserError(
                f"the instruction {instruction!r} has {len(words)} words, but the text encoder holds {self.length}; "
                f"shorten it, or train with a text length of {len(words)} or more"
            )
        return words
