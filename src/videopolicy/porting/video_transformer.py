"""A published video transformer and Wan's autoencoder -> a model that imagines, and can be trained to act."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from videopolicy.errors import UserError
from videopolicy.hub import locate
from videopolicy.models.video_action import Config
from videopolicy.porting import wan_vae
from videopolicy.porting.families import Family, Shape
from videopolicy.porting.layout import INDEX, TRANSFORMERS
from videopolicy.porting.part import open_part, undescribed
from videopolicy.porting.pieces import Piece, Row, check, row, shapes
from videopolicy.porting.sgm import on_meta
from videopolicy.porting.sources import Weights, read

# What is needed of a repository on the hub; the text encoder is fetched when an instruction is new.
NEEDED = ("transformer/*", "vae/*", "transformer_2/config.json", INDEX)
OF_TWO = (*NEEDED, "transformer_2/*")
# Names of a backbone's networks.
NETWORKS = ("net", "second")
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
    path = locate(source, NEEDED if template.backbone.experts == 1 else OF_TWO)
    if path.is_dir():
        shape, state, rows = _of_folder(path, template.backbone, family)
    elif template.backbone.experts > 1:
        raise UserError(
            f"{path}: one network of two; import a model of two from a folder of diffusers', which has both"
        )
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
    if (path / TRANSFORMERS[1]).is_dir() and template.experts == 1:
        raise UserError(
            f"{path}: draws with two networks, {' and '.join(TRANSFORMERS)}, but a model of this preset has one; "
            "Wan2.2-I2V-A14B is imported for --preset wan_a14b"
        )
    of_pipeline = _of_pipeline(path)
    found: list[Shape] = []
    state: dict[str, Tensor] = {}
    rows: list[Row] = []
    for folder, network in list(zip(TRANSFORMERS, NETWORKS, strict=True))[: template.experts]:
        facts, weights, where = open_part(path / folder, family.title)
        found.append(_described(path / folder, {**facts, **of_pipeline}, template, family))
        if found[-1] != found[0]:
            raise UserError(f"{path / folder}: of another shape than {TRANSFORMERS[0]}, whose place it takes")
        check(weights, _expected(found[-1]), where)
        state |= _named(weights, network)
        rows.append(row(f"{folder}/", weights, "backbone"))
    return found[0], state, rows


def _described(folder: Path, facts: dict[str, Any], template: Any, family: Family) -> Shape:
    if facts.get("_class_name", family.class_name) != family.class_name:
        raise UserError(
            f"{folder}: a {facts['_class_name']}, but {family.title} has a {family.class_name}; import it for another "
            "--preset"
        )
    try:
        return family.described(facts, template)
    except (KeyError, TypeError, ValueError) as error:
        raise undescribed(folder, family.title, error) from error


def _of_pipeline(path: Path) -> dict[str, Any]:
    """What the index of a pipeline says of when which network draws; nothing where there is no index.

    Raises:
        UserError: it is damaged.
    """
    if not (path / INDEX).is_file():
        return {}
    try:
        told = dict(json.loads((path / INDEX).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path / INDEX}: not the index of a pipeline ({error!r}); download it again") from error
    return {name: told[name] for name in ("boundary_ratio",) if name in told}


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


def _named(weights: Weights, network: str = NETWORKS[0]) -> dict[str, Tensor]:
    return {f"backbone.{network}.{name}": value for name, value in weights.items()}
