"""Weights as Stability AI's `sgm` code and the paper's authors keep them -> parts of a policy.

The sizes of the U-Net, the autoencoder and the text tower are read off the weights. What leaves no trace in them (the
width of an attention head, the groups of a norm, a stride) is the template's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from videopolicy.backbones import unet
from videopolicy.backbones.sgm_keys import sgm_names
from videopolicy.errors import UserError
from videopolicy.heads.authors_keys import authors_names
from videopolicy.latents import svd
from videopolicy.latents.svd_keys import fold_quant, from_sgm, to_sgm
from videopolicy.models.video_action import Config
from videopolicy.porting.pieces import Piece, check, indices, lookup, shapes
from videopolicy.porting.sources import Weights

T = TypeVar("T")
# Folding a convolution into another in half precision is off by less, another encoder by far more.
FOLDED = 0.01


def backbone(weights: Weights, template: unet.Config, where: str) -> tuple[Piece, int]:
    """The video U-Net, and the width of the tokens that it attends to.

    Args:
        weights: without the prefix "model.diffusion_model.".
        template: what the weights do not tell.
        where: the file, and the prefix.

    Raises:
        UserError: a weight is missing, one too many, or of another shape.
    """
    levels = 1 + sum(name.endswith(".op.weight") for name in weights)
    if levels != len(template.channels):
        raise UserError(f"{where} is a U-Net of {levels} levels; this model's has {len(template.channels)}")
    step = len(indices(weights, "input_blocks.")) // levels
    first = [f"input_blocks.{level * step + 1}" for level in range(levels)]
    config = replace(
        template,
        channels=tuple(lookup(weights, f"{block}.0.out_layers.3.weight", where).shape[0] for block in first),
        layers=step - 1,
        attention=tuple(f"{block}.1.norm.weight" in weights for block in first),
        id_width=lookup(weights, "label_emb.0.0.weight", where).shape[1] // len(template.ids),
    )
    width = lookup(weights, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", where).shape[1]
    net = on_meta(config, svd.CHANNELS, width)
    names = sgm_names(net.state_dict(), config)
    check(weights, {names[ours]: shape for ours, shape in shapes(net.state_dict()).items()}, where)
    return Piece(config, {f"backbone.{ours}": weights[theirs] for ours, theirs in names.items()}), width


def latents(
    encoder: Weights, decoder: Weights, folded: Weights, template: svd.Config, where: str, starts: tuple[str, str, str]
) -> Piece:
    """The autoencoder: the conditioner's encoder, the first stage's decoder.

    Args:
        encoder: `encoder.` and `quant_conv.` of the conditioner.
        decoder: the first stage's, without a prefix.
        folded: the first stage's encoder, which has no `quant_conv`, without a prefix.
        template: what the weights do not tell.
        where: the file.
        starts: the prefix of each of the three.

    Raises:
        UserError: a weight is missing, one too many, or of another shape; or the two encoders are not the same.
    """
    firsts = [f"encoder.down.{level}.block.0.conv1.weight" for level in indices(encoder, "encoder.down.") or [0]]
    widths = tuple(lookup(encoder, name, where + starts[0]).shape[0] for name in firsts)
    config = replace(template, channels=widths)
    vae = on_meta(config).vae.state_dict()
    expected = shapes(to_sgm(vae)) | shapes({name: vae[name] for name in vae if name.startswith("quant_conv.")})
    inner = {side: _below(f"{side}.", expected) for side in ("encoder", "decoder")}
    check(
        encoder, {name: shape for name, shape in expected.items() if not name.startswith("decoder.")}, where + starts[0]
    )
    check(decoder, inner["decoder"], where + starts[1])
    check(folded, inner["encoder"], where + starts[2])
    alone = fold_quant({name: value.float() for name, value in encoder.items()})
    _check_same(_below("encoder.", alone), folded, f"{where}{starts[2]}")
    renamed = from_sgm({**encoder, **{f"decoder.{name}": value for name, value in decoder.items()}})
    return Piece(config, {f"latents.vae.{name}": value for name, value in renamed.items()})


def head(weights: Weights, video: nn.Module, template: Config, where: str) -> tuple[Piece, int]:
    """Adapter and action denoiser, and the width D of an action.

    Args:
        weights: `vision_encoder.` and `pose_pred_net.`.
        video: the backbone whose features the head reads.
        template: the policy; the head's shape is the template's, but for D.
        where: the file, and the prefix.

    Raises:
        UserError: weights for another number of views, or one that is missing, one too many, or of another shape.
    """
    found, views = len(indices(weights, "vision_encoder.layer1_")), len(template.views)
    if found != views:
        raise UserError(f"{where}vision_encoder is for {found} views; this model sees {views}: {template.views}")
    width = lookup(weights, "pose_pred_net.final_conv.1.weight", where).shape[0]
    with torch.device("meta"):
        built = template.head.build(video.tap_channels, video.time_width, views, template.window.frames, width)
    names = authors_names(built.state_dict(), template.head, views)
    check(weights, {names[ours]: shape for ours, shape in shapes(built.state_dict()).items()}, where)
    return Piece(template.head, {f"head.{ours}": weights[theirs] for ours, theirs in names.items()}), width


def on_meta(config: Any, *arguments: Any) -> Any:
    """What a configuration builds, without memory for its weights."""
    with torch.device("meta"):
        return config.build(*arguments).to("meta")


def _below(start: str, values: Mapping[str, T]) -> dict[str, T]:
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def _check_same(ours: Weights, theirs: Weights, where: str) -> None:
    """Whether two encoders are one: a policy has a single one, for what it sees and for what it learns to draw."""
    for name, value in theirs.items():
        off = (ours[name] - value.float()).abs().max() / value.float().abs().max().clamp(min=1e-12)
        if not off <= FOLDED:
            raise UserError(
                f"{where}{name} is not what the conditioner's encoder becomes with its quant_conv folded in "
                f"(off by {off:.2g} of the largest number); this model has one encoder and cannot stand for both"
            )
