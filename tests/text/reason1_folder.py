"""A tiny Qwen2.5-VL with a tokenizer, as files."""

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Of content in parts, as a pipeline gives it.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{{ part.text }}{% endfor %}<|im_end|>\n{% endfor %}"
)
TOWER = {
    "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0]},
}  # fmt: skip
EYES = {"depth": 1, "hidden_size": 8, "num_heads": 2, "intermediate_size": 8, "out_hidden_size": 8}
# Of a token, and of the words around an instruction, a token a byte.
WIDTH, LENGTH = 24, 160


def write(folder: Path, seed: int = 0) -> Path:
    """Writes `text_encoder` and `tokenizer` as a pipeline of diffusers' has them."""
    words = (*SPECIAL, *sorted(ByteLevel.alphabet()))
    tokenizer = Qwen2Tokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], additional_special_tokens=SPECIAL[1:]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "tokenizer")
    config = Qwen2_5_VLConfig(text_config={**TOWER, "vocab_size": len(words)}, vision_config=EYES)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Qwen2_5_VLForConditionalGeneration(config)
        # Fresh weights barely tell tokens apart.
        for weight in encoder.model.language_model.parameters():
            weight.data.mul_(5 if weight.dim() > 1 else 1)
        encoder.save_pretrained(folder / "text_encoder")
    return folder
