"""Names of the weights of Wan's transformer in the files that its authors publish, told by diffusers' names."""

from collections.abc import Iterable

# What the names in repacked files start with.
PREFIX = "model.diffusion_model."
# Replaced one after the other; no name of theirs holds one of ours that comes later.
PARTS = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "attn1": "self_attn",
    "attn2": "cross_attn",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "o",
    # The second norm there is the third here, and has no weights.
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
# Beside the blocks' own stands that of the last layer.
TABLE = "scale_shift_table"


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Diffusers' name of each weight -> its authors', without a prefix."""
    return {name: _original(name) for name in names}


def _original(name: str) -> str:
    if name == TABLE:
        return "head.modulation"
    for ours, theirs in {**PARTS, TABLE: "modulation"}.items():
        name = name.replace(ours, theirs)
    return name
