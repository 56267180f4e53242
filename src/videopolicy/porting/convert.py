"""Pretrained weights -> a model, and a report of what each group of them became."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from videopolicy.backbones import unet
from videopolicy.clips.normalize import Normalizer
from videopolicy.errors import UserError
from videopolicy.hub import locate
from videopolicy.latents import svd
from videopolicy.latents.wan import Config as WanLatents
from videopolicy.models.base import ModelConfig
from videopolicy.models.video_action import Config, VideoActionModel
from videopolicy.porting import cosmos, folder, sgm, towers, video_transformer, wan
from videopolicy.porting.families import Family
from videopolicy.porting.pieces import Piece, Row, row
from videopolicy.porting.sources import Weights, read

NET = "model.diffusion_model."
ADAPTER, ACTIONS = f"{NET}vision_encoder.", f"{NET}pose_pred_net."
ENCODER, DECODER = "first_stage_model.encoder.", "first_stage_model.decoder."
CONDITIONER = "conditioner.embedders.3.encoder."
CLIP = "conditioner.embedders.0.open_clip.model."
LEFT_OUT = "left out: "
# Of video transformers.
FAMILIES = (cosmos.PREDICT2, cosmos.PREDICT2_5, wan.FAMILY)
# How the names in a file of sgm start, and what becomes of those weights; the longest start counts.
GROUPS = {
    NET: "backbone",
    ADAPTER: "head: adapter",
    ACTIONS: "head: action denoiser",
    CONDITIONER: "latents: encoder",
    DECODER: "latents: decoder",
    ENCODER: LEFT_OUT + "the same as the conditioner's, once that one's quant_conv is folded in",
    f"{CONDITIONER}decoder.": LEFT_OUT + "the conditioner's decoder, which nothing calls",
    f"{CONDITIONER}post_quant_conv.": LEFT_OUT + "likewise",
    CLIP: "text",
    f"{CLIP}visual.": LEFT_OUT + "CLIP's image tower, in whose place the text comes",
    f"{CLIP}logit_scale": LEFT_OUT + "CLIP's temperature, which only its training needs",
    f"{CLIP}attn_mask": LEFT_OUT + "CLIP's causal mask, which is no weight",
    "model_ema.": LEFT_OUT + "averages, of which sgm makes no use unless told so; the weights themselves are taken",
}
# Released for 14 frames, under the same names and shapes as the one for 25: only the file's name tells.
SHORT = ("svd.safetensors", "svd_image_decoder.safetensors")


@dataclass(frozen=True)
class Ported:
    """A model made of pretrained weights.

    Attributes:
        model: its weights are mapped from the files; without a head where these have none.
        rows: what became of them; every weight is in one.
        license: of the weights, as the Hugging Face hub names it, and in words.
    """

    model: VideoActionModel
    rows: tuple[Row, ...]
    license: tuple[str, str] = ("other", "that of the imported weights")


def convert(
    source: str,
    template: ModelConfig,
    text: str | None = None,
    statistics: Normalizer | None = None,
    vae: str | None = None,
) -> Ported:
    """Makes a model of pretrained weights.

    Args:
        source: a folder of Stable Video Diffusion in diffusers' layout, or its name on the Hugging Face hub; a file of
            sgm (`svd_xt.safetensors`); a checkpoint of the paper's authors (`.ckpt`). For a template on a video
            transformer, a folder or a file of that (see `videopolicy.porting.video_transformer`).
        template: the model that they are for; sizes that the weights tell replace its own.
        text: a file, folder or name of CLIP, or of the transformer's text encoder, instead of what the source holds.
        statistics: ranges of the actions, for weights with a head.
        vae: a file, folder or name of the autoencoder, instead of what the source holds; for transformers.

    Raises:
        UserError: a weight is missing, one too many, or of another shape; a file is damaged, or holds more than
            weights; the text tower or the statistics are missing, or the statistics are of another width.
    """
    template, family = _recognised(template)
    if family is not None:
        _check_width(0, statistics, Path(source))
        pieces, width, rows = video_transformer.pieces(source, template, family, vae, text)
        return Ported(_assemble(template, pieces, width, None), tuple(rows), family.license)
    if vae is not None:
        raise UserError("--vae is for a video transformer; Stable Video Diffusion comes with its own")
    path = locate(source, folder.NEEDED)
    if path.is_dir():
        return _of_folder(path, template, text, statistics)
    if path.name in SHORT:
        raise UserError(
            f"{path}: by its name, Stable Video Diffusion for 14 frames; this model draws {template.flat_frames}: "
            "use svd_xt.safetensors"
        )
    return convert_sgm(read(path), path, template, text, statistics)


def _recognised(template: ModelConfig) -> tuple[Config, Family | None]:
    """The template and the family of its video transformer; None for Stable Video Diffusion."""
    if isinstance(template, Config):
        if isinstance(template.backbone, unet.Config) and isinstance(template.latents, svd.Config):
            return template, None
        for family in FAMILIES:
            if family.fits(template.backbone) and isinstance(template.latents, WanLatents):
                return template, family
    raise UserError(
        "this model stands on no published video model, whose weights could be imported; take --preset svd, wan_5b, "
        "wan_1b, wan_a14b, cosmos_2b or cosmos25_2b"
    )


def _of_folder(path: Path, template: Config, text: str | None, statistics: Normalizer | None) -> Ported:
    if not (path / "unet").is_dir():
        raise UserError(f"{path}: has no folder unet; give a folder of Stable Video Diffusion, or a file of weights")
    _check_width(0, statistics, path)
    tower, rows = _text({}, text, template, path)
    net, net_weights, width = folder.backbone(path, template.backbone, template.flat_frames)
    latents, latent_weights = folder.latents(path, template.latents)
    rows = [row("unet/", net_weights, "backbone"), row("vae/", latent_weights, "latents"), *rows]
    return Ported(_assemble(template, {"backbone": net, "latents": latents, "text": tower}, width, None), tuple(rows))


def convert_sgm(
    weights: Weights, path: Path, template: Config, text: str | None = None, statistics: Normalizer | None = None
) -> Ported:
    """Makes a model of weights under sgm's names, which `path` held; see `convert`."""
    groups = _split(weights, path)
    acts = bool(groups[ADAPTER] or groups[ACTIONS])
    if not acts:
        _check_width(0, statistics, path)
    elif statistics is None:
        raise UserError(
            f"{path}: has a head, which needs the ranges of its actions: give the data set that it was trained on "
            "as --data, or the ranges themselves as --statistics"
        )
    tower, rows = _text(groups[CLIP], text, template, path)
    net, width = sgm.backbone(_inner(groups, NET), template.backbone, f"{path}: {NET}")
    encoder, decoder, folded = (_inner(groups, name) for name in (CONDITIONER, DECODER, ENCODER))
    latents = sgm.latents(encoder, decoder, folded, template.latents, f"{path}: ", (CONDITIONER, DECODER, ENCODER))
    pieces = {"backbone": net, "latents": latents, "text": tower}
    if acts:
        video = sgm.on_meta(net.config, svd.CHANNELS, width)
        head = {name.removeprefix(NET): value for part in (ADAPTER, ACTIONS) for name, value in groups[part].items()}
        pieces["head"], actions = sgm.head(head, video, template, f"{path}: {NET}")
        _check_width(actions, statistics, path)
    found = [row(name, groups[name], became) for name, became in GROUPS.items() if groups[name] and name != CLIP]
    return Ported(_assemble(template, pieces, width, statistics), (*found, *rows))


def _split(weights: Weights, path: Path) -> dict[str, dict[str, Tensor]]:
    """Every weight in the group of the longest start, under its whole name."""
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in GROUPS}
    for name, value in weights.items():
        starts = [start for start in GROUPS if name.startswith(start)]
        if not starts:
            raise UserError(f"{path}: {name} is no weight of Stable Video Diffusion or of the paper's model")
        groups[max(starts, key=len)][name] = value
    if not groups[NET]:
        raise UserError(f"{path}: has no weights {NET}..., so it is no checkpoint of sgm's")
    return groups


def _inner(groups: dict[str, dict[str, Tensor]], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in groups[start].items()}


def _text(found: Weights, text: str | None, template: Config, path: Path) -> tuple[Piece, list[Row]]:
    """The text tower of the source, or the one that was given instead."""
    if text is not None:
        tower, rows = towers.read_tower(text, template.text)
        return tower, rows + ([row(CLIP, found, LEFT_OUT + "another text tower was given")] if found else [])
    inner = {name.removeprefix(CLIP): value for name, value in found.items()}
    if not any(name.startswith("transformer.") for name in inner):
        raise UserError(
            f"{path}: has no text tower, since Stable Video Diffusion reads images; add --text {towers.HUB}, "
            "or the path of a download of it"
        )
    return towers.from_open_clip(inner, template.text, f"{path}: {CLIP}"), [row(CLIP, found, GROUPS[CLIP])]


def _check_width(actions: int, statistics: Normalizer | None, path: Path) -> None:
    if statistics is not None and len(statistics.low) != actions:
        fault = f"for actions {actions} wide" if actions else "of video alone, without a head"
        raise UserError(f"{path}: weights {fault}, but the statistics are of {len(statistics.low)} actions")


def _assemble(
    template: Config, pieces: dict[str, Piece], width: int, statistics: Normalizer | None
) -> VideoActionModel:
    config = replace(template, **{name: piece.config for name, piece in pieces.items()})
    if config.text.width != width:
        raise UserError(f"the text's tokens are {config.text.width} wide, the video model attends to {width}")
    with torch.device("meta"):
        model = config.build(statistics)
    # Assigned, not copied: they stay on disk until they are used.
    model.load_state_dict(
        {name: value for piece in pieces.values() for name, value in piece.state.items()}, assign=True
    )
    return model.eval().requires_grad_(False)
