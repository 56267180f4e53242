"""A published video transformer and Wan's autoencoder -> a model that imagines, and can be trained to act."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from videopolicy.errors import UserError
from videopolicy.hub import locate
from videopolicy.models.video_action import Config
from videopolicy.porting import wan_vae
from videopolicy.porting.families import Family, Shape
from videopolicy.porting.part import open_part, undescribed
from videopolicy.porting.pieces import Piece, Row, check, row, shapes
from videopolicy.porting.sgm import on_meta
from videopolicy.porting.sources import Weights, read

TRANSFORMER = "transformer"
# The one that pipelines of two networks go on with at lower noise levels.
SECOND = "transformer_2"
# What is needed of a repository on the hub; the text encoder is fetched when an instruction is new.
NEEDED = ("transformer/*", "vae/*", "transformer_2/config.json")
LEFT_OUT = "left out: counts of its training, and constants"


def pieces(
    source: str, template: Config, family: Family, vae: str | None, text: str | None
) -> tuple[dict[str, Piece], int, list[Row]]:
    """Backbone, latents and text, the width of the tokens that the backbone attends to, and what became of the weights.

    Args:
        source: a folder of a pipeline of diffusers', or its name on the hub; or a file of the transformer.
        template: what the description, or the weights, do not tell.
        family: of transformers.
        vae: the autoencoder as a folder, a name on the hub or a file, instead of what the source holds.
        text: the text encoder, as `videopolicy.text.encoder` names one, likewise.

    Raises:
        UserError: a weight is missing, one too many, or of another shape; a file is missing or damaged; the parts do
            not fit each other; or the text encoder is not to be had.
    """
    path = locate(source, NEEDED)
    if path.is_dir():
        shape, state, rows = _of_folder(path, template.backbone, family)
    else:
        shape, state, rows = _of_file(path, template.backbone, family)
    if vae is None and not (path / "vae").is_dir():
        raise UserError(f"{path}: has no autoencoder; add --vae, a folder or a file of Wan's")
    latents, became = wan_vae.latents(locate(vae, NEEDED) if vae else path, template.latents)
    channels = len(latents.config.mean)
    if channels != shape.channels:
        raise UserError(
            f"{source}: a transformer for latents of {shape.channels} channels, but the autoencoder's have {channels}; "
            "it is of another generation"
        )
    told = replace(template.text, source=text or _text_of(source, path, template), width=shape.text_width)
    # Weights of the text encoder stay where they are; what it makes of no words is the transformer's to know.
    encoder = told.build()
    if shape.config.prompted:
        state["backbone.empty_prompt"] = encoder.empty_prompt()
    else:
        encoder.check()
    found = {"backbone": Piece(shape.config, state), "latents": latents, "text": Piece(told, {})}
    return found, shape.text_width, [*rows, became, Row(told.source, 0, 0, "text: read when an instruction is new")]


def _text_of(source: str, path: Path, template: Config) -> str:
    """The source itself, where it holds a text encoder or is a name on the hub; else the usual one."""
    if (path / "text_encoder").is_dir():
        return str(path.resolve()) if Path(source).expanduser().exists() else source
    return template.text.source


def _of_folder(path: Path, template: Any, family: Family) -> tuple[Shape, dict[str, Tensor], list[Row]]:
    if (path / SECOND).is_dir():
        raise UserError(f"{path}: draws with two networks, {TRANSFORMER} and {SECOND}; a model here has one")
    facts, weights, where = open_part(path / TRANSFORMER, family.title)
    if facts.get("_class_name", family.class_name) != family.class_name:
        raise UserError(
            f"{path / TRANSFORMER}: a {facts['_class_name']}, but {family.title} has a {family.class_name}; import it "
            "for another --preset"
        )
    try:
        shape = family.described(facts, template)
    except (KeyError, TypeError, ValueError) as error:
        raise undescribed(path / TRANSFORMER, family.title, error) from error
    check(weights, _expected(shape), where)
    return shape, _named(weights), [row(f"{TRANSFORMER}/", weights, "backbone")]


def _of_file(path: Path, template: Any, family: Family) -> tuple[Shape, dict[str, Tensor], list[Row]]:
    held, where = read(path), f"{path}: "
    start = family.prefix if any(name.startswith(family.prefix) for name in held) else ""
    inner = {name.removeprefix(start): value for name, value in held.items()}
    beside = {name for name in inner if name.startswith(family.beside) or name.endswith(family.beside)}
    weights = {name: value for name, value in inner.items() if name not in beside}
    left = row(path.name, {name: inner[name] for name in beside}, LEFT_OUT)
    rows = [row(path.name, weights, "backbone"), *([left] if beside else [])]
    shape = family.sized(weights, template, where + start)
    expected = _expected(shape)
    names = family.original(expected)
    check(weights, {names[ours]: sizes for ours, sizes in expected.items()}, where + start)
    return shape, _named({ours: weights[theirs] for ours, theirs in names.items()}), rows


def _expected(shape: Shape) -> dict[str, tuple[int, ...]]:
    return shapes(on_meta(shape.config, shape.channels, shape.text_width).net.state_dict())


def _named(weights: Weights) -> dict[str, Tensor]:
    return {f"backbone.net.{name}": value for name, value in weights.items()}
