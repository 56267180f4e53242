"""Wan's autoencoders, from a folder of diffusers' or a file of their authors'."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from videopolicy.errors import UserError
from videopolicy.latents import wan
from videopolicy.latents.wan_keys import original_names
from videopolicy.porting.part import open_part, undescribed
from videopolicy.porting.pieces import Piece, Row, check, row, shapes
from videopolicy.porting.sgm import on_meta
from videopolicy.porting.sources import Weights, read

TITLE = "Wan's autoencoder"
# A weight that only Wan 2.2's have, by their authors' name.
OF_2_2 = "encoder.downsamples.0.downsamples.0.residual.0.gamma"


def latents(path: Path, template: wan.Config) -> tuple[Piece, Row]:
    """The autoencoder of a folder, of the folder `vae` in it, or of a file; and what became of its weights.

    Raises:
        UserError: a file or a weight is missing, one too many, or of another shape; or it is of the other generation.
    """
    if path.is_dir():
        return _of_folder(path / "vae" if (path / "vae").is_dir() else path, template)
    weights, where = read(path), f"{path}: "
    config, names = _recognised(weights, template, path)
    check(weights, {names[ours]: shape for ours, shape in _expected(config).items()}, where)
    state = {f"latents.vae.{ours}": weights[theirs] for ours, theirs in names.items()}
    return Piece(config, state), row(path.name, weights, "latents")


def _of_folder(folder: Path, template: wan.Config) -> tuple[Piece, Row]:
    facts, weights, where = open_part(folder, TITLE)
    try:
        config = _described(facts, template)
    except (KeyError, TypeError) as error:
        raise undescribed(folder, TITLE, error) from error
    check(weights, _expected(config), where)
    piece = Piece(config, {f"latents.vae.{name}": value for name, value in weights.items()})
    return piece, row("vae/", weights, "latents")


def _described(facts: dict[str, Any], template: wan.Config) -> wan.Config:
    config = replace(
        template,
        width=facts["base_dim"],
        decoder_width=facts.get("decoder_base_dim") or facts["base_dim"],
        levels=tuple(facts["dim_mult"]),
        # Files of Wan 2.1 are older than these.
        patch=facts.get("patch_size") or 1,
        averages=facts.get("is_residual", False),
        mean=tuple(facts["latents_mean"]),
        deviation=tuple(facts["latents_std"]),
    )
    needed: dict[str, Any] = {"num_res_blocks": wan.BLOCKS, "attn_scales": [], "z_dim": len(config.mean)}
    halvings = len(config.levels) - 1
    needed["temperal_downsample"] = [level >= halvings - 2 for level in range(halvings)]
    for name, value in needed.items():
        if facts[name] != value:
            raise UserError(f"{TITLE} with {name} {facts[name]}, but latents 'wan' have {value}")
    return config


def _recognised(weights: Weights, template: wan.Config, path: Path) -> tuple[wan.Config, dict[str, str]]:
    """The configuration, which the template must be of, and the authors' names, or diffusers' own."""
    expected = _expected(template)
    if "quant_conv.weight" in weights:
        return template, {name: name for name in expected}
    if (OF_2_2 in weights) != template.averages:
        here, there = ("2.2", "2.1") if OF_2_2 in weights else ("2.1", "2.2")
        raise UserError(f"{path}: the autoencoder of Wan {here}, but this model denoises latents of Wan {there}")
    return template, original_names(expected, template.averages, wan.BLOCKS)


def _expected(config: wan.Config) -> dict[str, tuple[int, ...]]:
    return shapes(on_meta(config).vae.state_dict())
