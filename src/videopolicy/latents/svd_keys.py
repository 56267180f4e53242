"""Names of SVD's autoencoder: in checkpoints of Stability AI's `sgm` code, and in diffusers.

sgm stores two encoders. The first stage (`first_stage_model.`) encodes what is denoised and has no quantisation
convolution; the one for conditioning images (`conditioner.embedders.3.encoder.`) has one. diffusers keeps a single
encoder, with that convolution. The two agree if folding it into the convolution before it gives the first stage.
"""

from collections.abc import Mapping
from functools import cache
from itertools import product

import torch
from torch import Tensor

from videopolicy.errors import UserError

RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
TIME = {"in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2"}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
ENDS = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
QUANT = "quant_conv"
# The last convolution of the encoder has the same name in both.
LAST = "encoder.conv_out"


def from_sgm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under diffusers' names.

    Args:
        weights: `encoder.` and `decoder.` as sgm names them, and `quant_conv.`, if there is one.

    Returns:
        The weights for `AutoencoderKLTemporalDecoder`; without a quantisation convolution it gets the identity.

    Raises:
        UserError: a name that does not belong there, or no last convolution of the encoder.
    """
    found = {QUANT + ".weight", QUANT + ".bias"} & weights.keys()
    known = names(_levels(weights, "encoder.down."))
    renamed = {_look_up(known, name): value for name, value in weights.items() if name not in found}
    # Attention is by 1x1 convolutions there, by matrices here.
    renamed = {name: value[..., 0, 0] if _is_matrix(name, 4, value) else value for name, value in renamed.items()}
    if found:
        return {**renamed, **{name: weights[name] for name in found}}
    if (moments := weights.get(LAST + ".bias")) is None:
        raise UserError(f"SVD's autoencoder lacks {LAST}.bias")
    identity = torch.eye(len(moments), dtype=moments.dtype, device=moments.device)[..., None, None]
    return {**renamed, QUANT + ".weight": identity, QUANT + ".bias": torch.zeros_like(moments)}


def to_sgm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as sgm's first stage has them: the quantisation convolution folded in.

    Args:
        weights: of `AutoencoderKLTemporalDecoder`.

    Raises:
        UserError: a name that does not belong there.
    """
    weights = fold_quant(weights)
    known = {after: before for before, after in names(_levels(weights, "encoder.down_blocks.")).items()}
    weights = {name: value[..., None, None] if _is_matrix(name, 2, value) else value for name, value in weights.items()}
    return {_look_up(known, name): value for name, value in weights.items()}


def fold_quant(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same autoencoder without its quantisation convolution; the names may be sgm's or diffusers'."""
    folded = dict(weights)
    quant, shift = folded.pop(QUANT + ".weight").flatten(1), folded.pop(QUANT + ".bias")
    folded[LAST + ".weight"] = torch.einsum("oc,cixy->oixy", quant, weights[LAST + ".weight"])
    folded[LAST + ".bias"] = quant @ weights[LAST + ".bias"] + shift
    return folded


@cache
def names(levels: int) -> dict[str, str]:
    """Every weight that an autoencoder of so many levels can have: sgm's name -> diffusers'.

    A superset: which blocks have a shortcut depends on the widths, and the last level is not resized.
    """
    parts = {f"{side}.{a}": f"{side}.{b}" for side in ("encoder", "decoder") for a, b in ENDS.items()}
    parts["decoder.conv_out.time_mix_conv"] = "decoder.time_conv_out"
    mixers = {}
    for side in ("encoder", "decoder"):
        parts |= _each(f"{side}.mid.attn_1", f"{side}.mid_block.attentions.0", ATTENTION)
    for level, block in product(range(levels), range(2)):
        parts |= _each(f"encoder.down.{level}.block.{block}", f"encoder.down_blocks.{level}.resnets.{block}", RESNET)
    for block in range(2):
        parts |= _each(f"encoder.mid.block_{block + 1}", f"encoder.mid_block.resnets.{block}", RESNET)
    decoder = [(f"mid.block_{block + 1}", f"mid_block.resnets.{block}") for block in range(2)]
    for level in range(levels):
        # sgm counts from the finest level, diffusers in the order of use.
        up = levels - 1 - level
        decoder += [(f"up.{level}.block.{block}", f"up_blocks.{up}.resnets.{block}") for block in range(3)]
        parts[f"decoder.up.{level}.upsample.conv"] = f"decoder.up_blocks.{up}.upsamplers.0.conv"
        parts[f"encoder.down.{level}.downsample.conv"] = f"encoder.down_blocks.{level}.downsamplers.0.conv"
    for before, after in decoder:
        parts |= _each(f"decoder.{before}", f"decoder.{after}.spatial_res_block", RESNET)
        parts |= _each(f"decoder.{before}.time_stack", f"decoder.{after}.temporal_res_block", TIME)
        mixers[f"decoder.{before}.mix_factor"] = f"decoder.{after}.time_mixer.mix_factor"
    leaves = {f"{a}.{leaf}": f"{b}.{leaf}" for (a, b), leaf in product(parts.items(), ("weight", "bias"))}
    return leaves | mixers


def _each(before: str, after: str, table: Mapping[str, str]) -> dict[str, str]:
    return {f"{before}.{a}": f"{after}.{b}" for a, b in table.items()}


def _levels(weights: Mapping[str, Tensor], prefix: str) -> int:
    found = {name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)}
    return max((int(level) for level in found if level.isdecimal()), default=0) + 1


def _look_up(known: Mapping[str, str], name: str) -> str:
    if name not in known:
        raise UserError(f"{name!r} is no weight of SVD's autoencoder with temporal decoder")
    return known[name]


def _is_matrix(name: str, dims: int, value: Tensor) -> bool:
    return ".attentions." in name and name.endswith("weight") and value.dim() == dims
