"""Names of the weights of Cosmos-Predict2 in the files that NVIDIA publishes, told by diffusers' names."""

from collections.abc import Iterable

# What the names in the files start with, and what stands there that is no weight of the network.
PREFIX = "net."
COUNTERS = ("accum_", "pos_embedder.", "logvar.")
# Replaced one after the other; no name of theirs holds one of ours that comes later.
PARTS = {
    "transformer_blocks.": "blocks.",
    "time_embed.t_embedder": "t_embedder.1",
    "time_embed.norm": "t_embedding_norm",
    "patch_embed.proj": "x_embedder.proj.1",
    "norm_out.linear_": "final_layer.adaln_modulation.",
    "proj_out": "final_layer.linear",
    "norm1.linear_": "adaln_modulation_self_attn.",
    "norm2.linear_": "adaln_modulation_cross_attn.",
    "norm3.linear_": "adaln_modulation_mlp.",
    "attn1": "self_attn",
    "attn2": "cross_attn",
    "to_q": "q_proj",
    "to_k": "k_proj",
    "to_v": "v_proj",
    "to_out.0": "output_proj",
    "norm_q": "q_norm",
    "norm_k": "k_norm",
    "ff.net.0.proj": "mlp.layer1",
    "ff.net.2": "mlp.layer2",
}


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Diffusers' name of each weight -> NVIDIA's, without the prefix "net."."""
    return {name: _original(name) for name in names}


def _original(name: str) -> str:
    for ours, theirs in PARTS.items():
        name = name.replace(ours, theirs)
    return name
