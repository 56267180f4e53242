"""A folder of Stable Video Diffusion in diffusers' layout -> parts of a policy."""

from dataclasses import replace
from pathlib import Path

from videopolicy.backbones import unet
from videopolicy.errors import UserError
from videopolicy.latents import svd
from videopolicy.porting.part import CONFIG, WEIGHTS, open_part, undescribed
from videopolicy.porting.pieces import Piece, check, shapes
from videopolicy.porting.sgm import on_meta
from videopolicy.porting.sources import Weights

TITLE = "Stable Video Diffusion"
# What is needed of a repository on the hub; the first of the weights alone.
NEEDED = tuple(f"{part}/{name}" for part in ("unet", "vae") for name in (CONFIG, WEIGHTS[0]))


def backbone(folder: Path, template: unet.Config, frames: int) -> tuple[Piece, Weights, int]:
    """The video U-Net, its weights as they are, and the width of the tokens that it attends to.

    Args:
        folder: with `unet/`.
        template: what its description does not tell.
        frames: that the policy denoises together.

    Raises:
        UserError: a file or a weight is missing or damaged, or the U-Net is for another number of frames.
    """
    facts, weights, where = open_part(folder / "unet", TITLE)
    try:
        if facts["num_frames"] != frames:
            raise UserError(
                f"{folder}: this Stable Video Diffusion draws {facts['num_frames']} frames, this model {frames}; "
                "use stable-video-diffusion-img2vid-xt"
            )
        channels = tuple(facts["block_out_channels"])
        heads = facts["num_attention_heads"]
        heads = tuple(heads) if isinstance(heads, list) else (heads,) * len(channels)
        widths = {channels[level] // count for level, count in enumerate(heads)}
        config = replace(
            template,
            channels=channels,
            layers=facts["layers_per_block"],
            head_channels=widths.pop(),
            attention=tuple(name.startswith("CrossAttn") for name in facts["down_block_types"]),
            id_width=facts["addition_time_embed_dim"],
        )
        width = facts["cross_attention_dim"]
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise undescribed(folder / "unet", TITLE, error) from error
    if widths:
        raise UserError(
            f"{folder / 'unet' / CONFIG}: attention heads of several widths, which this model does not have"
        )
    expected = shapes(on_meta(config, svd.CHANNELS, width).state_dict())
    check(weights, {name.removeprefix("net."): shape for name, shape in expected.items()}, where)
    return Piece(config, {f"backbone.net.{name}": value for name, value in weights.items()}), weights, width


def latents(folder: Path, template: svd.Config) -> tuple[Piece, Weights]:
    """The autoencoder, and its weights as they are.

    Raises:
        UserError: a file or a weight is missing or damaged.
    """
    facts, weights, where = open_part(folder / "vae", TITLE)
    try:
        config = replace(template, channels=tuple(facts["block_out_channels"]))
    except (KeyError, TypeError) as error:
        raise undescribed(folder / "vae", TITLE, error) from error
    check(weights, shapes(on_meta(config).vae.state_dict()), where)
    return Piece(config, {f"latents.vae.{name}": value for name, value in weights.items()}), weights
