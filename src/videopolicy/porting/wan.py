"""How Wan's transformers are described and named: by diffusers, and in the files that their authors publish."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from videopolicy.backbones import wan
from videopolicy.backbones.wan_keys import PREFIX, original_names
from videopolicy.errors import UserError
from videopolicy.porting.families import Family, Shape, check_facts, patch_side
from videopolicy.porting.pieces import indices, lookup
from videopolicy.porting.sources import Weights

# What every network of diffusers' description has that is one of ours, and what it is otherwise.
NEEDED = {
    "cross_attn_norm": (True, "without a norm before the text"),
    "qk_norm": ("rms_norm_across_heads", "whose queries are not normed"),
    "image_dim": (None, "that reads tokens of images"),
    "added_kv_proj_dim": (None, "that attends to tokens of images"),
    "pos_embed_seq_len": (None, "with learnt positions of images"),
    "eps": (wan.EPSILON, "with another epsilon"),
}
# Of the times in sampling, as Wan's authors have it.
SHIFT = 5.0
TAKE = "take Wan2.2-TI2V-5B or Wan2.1-T2V-1.3B"


def described(facts: Mapping[str, Any], template: wan.Config) -> Shape:
    """See `Family.described`."""
    check_facts(facts, NEEDED, f"which backbone 'wan' is not; {TAKE}")
    patch = patch_side(facts, "wan")
    channels = _channels(facts["in_channels"], facts["out_channels"])
    config = replace(
        template,
        layers=facts["num_layers"],
        heads=facts["num_attention_heads"],
        head_channels=facts["attention_head_dim"],
        hidden=facts["ffn_dim"],
        patch=patch,
        frequencies=facts["freq_dim"],
    )
    return Shape(config, channels, facts["text_dim"])


def sized(weights: Weights, template: wan.Config, where: str) -> Shape:
    """See `Family.sized`; the width of a head leaves no trace in them."""
    width, seen, _, patch, _ = lookup(weights, "patch_embedding.weight", where).shape
    frequencies = lookup(weights, "time_embedding.0.weight", where).shape[1]
    config = replace(
        template,
        layers=len(indices(weights, "blocks.")),
        heads=width // template.head_channels,
        hidden=lookup(weights, "blocks.0.ffn.0.weight", where).shape[0],
        patch=patch,
        frequencies=frequencies,
    )
    drawn = lookup(weights, "head.head.weight", where).shape[0] // patch**2
    return Shape(config, _channels(seen, drawn), lookup(weights, "text_embedding.0.weight", where).shape[1])


def _channels(seen: int, drawn: int) -> int:
    if seen != drawn:
        raise UserError(
            f"a transformer of {seen} channels in and {drawn} out, which is shown the current image on channels, as "
            f"Wan2.1-I2V and Wan2.2-I2V-A14B are; {TAKE}"
        )
    return drawn


FAMILY = Family(
    title="Wan",
    class_name="WanTransformer3DModel",
    fits=lambda config: isinstance(config, wan.Config),
    pipeline="WanImageToVideoPipeline",
    scheduler=lambda: FlowMatchEulerDiscreteScheduler(shift=SHIFT),
    license=("apache-2.0", "Apache-2.0"),
    described=described,
    sized=sized,
    original=original_names,
    prefix=PREFIX,
    absent=("image_encoder", "image_processor", "transformer_2"),
    # The current image is a clean frame, with a time of its own.
    settings=(("expand_timesteps", True), ("boundary_ratio", None)),
)
