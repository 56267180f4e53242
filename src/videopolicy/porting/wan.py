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
TAKE = "take Wan2.2-TI2V-5B, Wan2.1-T2V-1.3B or Wan2.2-I2V-A14B"
# What to do with a network that is shown the current image otherwise than a preset's is.
OTHERWISE = {
    "frame": "has no channels for the current image; import it for --preset wan_5b or wan_1b, or of two networks for a "
    "preset on backbones.wan.T2V_A14B",
    "channels": "is shown the current image on channels; import it for --preset wan_a14b",
}


def described(facts: Mapping[str, Any], template: wan.Config) -> Shape:
    """See `Family.described`."""
    check_facts(facts, NEEDED, f"which backbone 'wan' is not; {TAKE}")
    patch = patch_side(facts, "wan")
    channels = _channels(facts["in_channels"], facts["out_channels"], template)
    boundary = facts.get("boundary_ratio", template.boundary)
    if template.experts > 1 and not isinstance(boundary, float):
        raise UserError(
            f"a pipeline with boundary_ratio {boundary!r}, which tells no time of the second of two networks"
        )
    config = replace(
        template,
        layers=facts["num_layers"],
        heads=facts["num_attention_heads"],
        head_channels=facts["attention_head_dim"],
        hidden=facts["ffn_dim"],
        patch=patch,
        frequencies=facts["freq_dim"],
        boundary=boundary if template.experts > 1 else None,
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
    return Shape(config, _channels(seen, drawn, template), lookup(weights, "text_embedding.0.weight", where).shape[1])


def _channels(seen: int, drawn: int, template: wan.Config) -> int:
    """Those of the latents; the current image must stand where the template has it."""
    image = {drawn: "frame", 2 * drawn + wan.MARKS: "channels"}.get(seen)
    if image is None:
        raise UserError(
            f"a transformer of {seen} channels in and {drawn} out: the current image on channels makes "
            f"{2 * drawn + wan.MARKS} in, a clean frame {drawn}; {TAKE}"
        )
    if image != template.image:
        raise UserError(f"a transformer of {seen} channels in and {drawn} out, which {OTHERWISE[image]}")
    return drawn


def _settings(config: wan.Config) -> dict[str, Any]:
    # A current image that is a clean frame has a time of its own.
    return {"expand_timesteps": config.image == "frame", "boundary_ratio": config.boundary}


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
    settings=_settings,
)
