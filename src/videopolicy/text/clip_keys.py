"""Names of CLIP's text tower: in OpenCLIP's checkpoints, and in transformers.

OpenCLIP keeps the three projections of an attention in one matrix, and the last projection transposed.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from videopolicy.errors import UserError

ENDS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
PROJECTIONS = ("q_proj", "k_proj", "v_proj")
OPENCLIP = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
TRANSFORMERS = re.compile(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def from_openclip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for `CLIPTextModelWithProjection`.

    Args:
        weights: of the text tower alone, without the prefix before "transformer.resblocks": no "visual.",
            no "logit_scale", no "attn_mask".

    Raises:
        UserError: a name that does not belong there.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        layer = OPENCLIP.fullmatch(name)
        if name in ENDS:
            renamed[ENDS[name]] = value.T.contiguous() if name == "text_projection" else value
        elif layer and layer[2] in LAYER:
            renamed[f"text_model.encoder.layers.{layer[1]}.{LAYER[layer[2]]}.{layer[3]}"] = value
        elif layer and layer[2] == "attn.in_proj":
            for projection, part in zip(PROJECTIONS, value.chunk(3), strict=True):
                renamed[f"text_model.encoder.layers.{layer[1]}.self_attn.{projection}.{layer[3]}"] = part.contiguous()
        else:
            raise UserError(f"{name!r} is no weight of OpenCLIP's text tower")
    return renamed


def to_openclip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_openclip`.

    Raises:
        UserError: a name that does not belong there, or an attention without one of its projections.
    """
    ends, parts = ({after: before for before, after in table.items()} for table in (ENDS, LAYER))
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        layer = TRANSFORMERS.fullmatch(name)
        if name in ends:
            renamed[ends[name]] = value.T.contiguous() if ends[name] == "text_projection" else value
        elif layer and layer[2] in parts:
            renamed[f"transformer.resblocks.{layer[1]}.{parts[layer[2]]}.{layer[3]}"] = value
        elif layer and layer[2].removeprefix("self_attn.") in PROJECTIONS:
            whole = f"transformer.resblocks.{layer[1]}.attn.in_proj_{layer[3]}"
            renamed[whole] = torch.cat([_projection(weights, layer, projection) for projection in PROJECTIONS])
        else:
            raise UserError(f"{name!r} is no weight of transformers' CLIP text tower")
    return renamed


def _projection(weights: Mapping[str, Tensor], layer: re.Match[str], projection: str) -> Tensor:
    name = f"text_model.encoder.layers.{layer[1]}.self_attn.{projection}.{layer[3]}"
    if name not in weights:
        raise UserError(f"CLIP's text tower lacks {name!r}")
    return weights[name]
