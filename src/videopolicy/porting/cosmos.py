"""How Cosmos-Predict2 and 2.5 are described and named: by diffusers, and in the files that NVIDIA publishes."""

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from typing import Any

from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from videopolicy.backbones import cosmos
from videopolicy.backbones.cosmos_keys import COUNTERS, PREFIX, original_names
from videopolicy.errors import UserError
from videopolicy.porting.families import Family, Shape, check_facts, patch_side
from videopolicy.porting.pieces import indices, lookup
from videopolicy.porting.sources import Weights

# What every network of diffusers' description has that is one of ours, and what it is otherwise.
NEEDED = {
    "concat_padding_mask": (True, "without a mask of padded pixels"),
    "extra_pos_embed_type": (None, "of Cosmos 1, with learnt positions"),
    "controlnet_block_every_n": (None, "with inputs of a control network"),
    "img_context_dim_in": (None, "that reads tokens of images"),
}


def described(facts: Mapping[str, Any], template: cosmos.Config) -> Shape:
    """See `Family.described`."""
    check_facts(facts, NEEDED, "which is none of Cosmos-Predict2; take Video2World")
    if facts["in_channels"] != facts["out_channels"] + 1:
        raise UserError(
            f"a transformer of {facts['in_channels']} channels in and {facts['out_channels']} out, which has no "
            "channel that marks the current images; take Video2World"
        )
    patch = patch_side(facts, "cosmos")
    projected = facts["encoder_hidden_states_channels"] if facts.get("use_crossattn_projection") else None
    _check_generation(projected, template, "")
    config = replace(
        template,
        layers=facts["num_layers"],
        heads=facts["num_attention_heads"],
        head_channels=facts["attention_head_dim"],
        patch=patch,
        expansion=round(facts["mlp_ratio"]),
        modulation=facts["adaln_lora_dim"],
        reach=tuple(map(float, facts["rope_scale"])),
        projected=projected,
    )
    width = facts["text_embed_dim"] if projected is None else facts["crossattn_proj_in_channels"]
    return Shape(config, facts["out_channels"], width)


def sized(weights: Weights, template: cosmos.Config, where: str) -> Shape:
    """See `Family.sized`; the width of a head and the reach of positions leave no trace in them."""
    hidden, seen = lookup(weights, "x_embedder.proj.1.weight", where).shape
    drawn = lookup(weights, "final_layer.linear.weight", where).shape[0]
    # Seen in each patch: the latents, which are drawn, and two masks.
    patch = isqrt(max(seen - drawn, 0) // 2)
    if patch < 1 or 2 * patch**2 != seen - drawn:
        raise UserError(f"{where}no channel marks the current images; take Video2World")
    read = lookup(weights, "blocks.0.cross_attn.k_proj.weight", where).shape[1]
    projection = weights.get("crossattn_proj.0.weight")
    projected = None if projection is None else read
    _check_generation(projected, template, where)
    config = replace(
        template,
        layers=len(indices(weights, "blocks.")),
        heads=hidden // template.head_channels,
        patch=patch,
        expansion=lookup(weights, "blocks.0.mlp.layer1.weight", where).shape[0] // hidden,
        modulation=lookup(weights, "final_layer.adaln_modulation.1.weight", where).shape[0],
        projected=projected,
    )
    return Shape(config, drawn // patch**2, read if projection is None else projection.shape[1])


def _check_generation(projected: int | None, template: cosmos.Config, where: str) -> None:
    """Predict2.5 projects its text; what that text is, and what the positions are told, differs with it."""
    if (projected is None) != (template.projected is None):
        found = "Cosmos-Predict2, which reads" if projected is None else "Cosmos-Predict2.5, which projects"
        wanted = "cosmos_2b" if projected is None else "cosmos25_2b"
        raise UserError(f"{where}a transformer of {found} its text; import it for --preset {wanted}")


def _of_2(config: Any) -> bool:
    return isinstance(config, cosmos.Config) and config.projected is None


def _of_2_5(config: Any) -> bool:
    return isinstance(config, cosmos.Config) and config.projected is not None


PREDICT2 = Family(
    title="Cosmos-Predict2",
    class_name="CosmosTransformer3DModel",
    fits=_of_2,
    pipeline="Cosmos2VideoToWorldPipeline",
    scheduler=lambda: FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
    license=("other", "NVIDIA Open Model License"),
    described=described,
    sized=sized,
    original=original_names,
    prefix=PREFIX,
    beside=(*COUNTERS, "_extra_state"),
    absent=("safety_checker",),
)
PREDICT2_5 = replace(
    PREDICT2,
    title="Cosmos-Predict2.5",
    fits=_of_2_5,
    pipeline="Cosmos2_5_PredictBasePipeline",
    # Typed as a switch, though a level is what it takes.
    scheduler=lambda: UniPCMultistepScheduler(
        use_karras_sigmas=True,
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        sigma_max=200.0,  # type: ignore[arg-type]
        sigma_min=0.01,  # type: ignore[arg-type]
    ),
)
