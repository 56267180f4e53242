"""A tiny text encoder of T5's family with a tokenizer, as files."""

from pathlib import Path

import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel

WORDS = ("press", "open", "the", "button", "drawer", "a", "red", "block")
SHAPE = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 2, "num_decoder_layers": 1}
KINDS = {"t5": (T5Config, T5EncoderModel), "umt5": (UMT5Config, UMT5EncoderModel)}


def write(folder: Path, kind: str = "t5", seed: int = 0) -> Path:
    """Writes `text_encoder` and `tokenizer` as a pipeline of diffusers' has them; tokens are 16 wide."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0)]
    vocabulary += [(f"▁{word}", -2.0) for word in WORDS] + [(letter, -8.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    tokenizer.save_pretrained(folder / "tokenizer")
    config, encoder = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder(config(vocab_size=len(tokenizer), **SHAPE)).save_pretrained(folder / "text_encoder")
    return folder
