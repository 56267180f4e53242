"""CLIP's tokeniser (Radford et al. 2021): lower-case byte-pair encoding with a fixed vocabulary, which lies beside."""

import gzip
from functools import cache
from html import unescape
from pathlib import Path

from transformers.models.clip.tokenization_clip import CLIPTokenizer

MERGES = Path(__file__).with_name("clip_merges.txt.gz")
# How byte-level encodings write the 256 bytes: printable ones as themselves, the others from 256 on.
BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 324))]
WORD_END = "</w>"
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
# Bytes, bytes at a word's end, one token a merge, start and end.
VOCABULARY = 2 * 256 + 48_894 + 2
START, END = VOCABULARY - 2, VOCABULARY - 1
# The original writes typographic quotation marks plainly.
QUOTES = str.maketrans("‘’“”", "''\"\"")


def tokenize(text: str) -> list[int]:
    """Token numbers of a text between those for its start and its end.

    Case, the amount of white space and the shape of quotation marks do not matter. The original also repairs text
    that was decoded wrongly and drops control characters; here both stay as they are.
    """
    # Twice, as the original does: captions from the web are often escaped once too often.
    plain = unescape(unescape(text)).translate(QUOTES)
    # Typed as anything that a tokenizer may return; of one text it is a list of numbers.
    return _tokenizer()(plain, split_special_tokens=True)["input_ids"]  # type: ignore[return-value]


@cache
def _tokenizer() -> CLIPTokenizer:
    with gzip.open(MERGES, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file]
    tokens = [*BYTES, *(byte + WORD_END for byte in BYTES), *map("".join, merges), *SPECIAL]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Typed as text, though pairs are what it takes.
    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]
