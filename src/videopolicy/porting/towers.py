"""CLIP's text tower, from OpenCLIP's or transformers' weights."""

from dataclasses import replace

from torch import Tensor

from videopolicy.errors import UserError
from videopolicy.hub import locate
from videopolicy.porting.pieces import Piece, Row, check, indices, lookup, row, shapes
from videopolicy.porting.sgm import on_meta
from videopolicy.porting.sources import Weights, read
from videopolicy.text import clip
from videopolicy.text.clip_keys import from_openclip, to_openclip

HUB = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
# What a folder or repository may call the file, best first.
FILES = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
# What CLIP has besides the weights of its text tower, in either naming.
BESIDE = (
    "text_model.embeddings.position_ids",
    "visual.",
    "vision_model.",
    "visual_projection.",
    "logit_scale",
    "attn_mask",
)


def read_tower(source: str, template: clip.Config) -> tuple[Piece, list[Row]]:
    """The text tower of a file, a folder or a repository of the hub, and what became of the weights there.

    Raises:
        UserError: none is there, or it is damaged or of another kind.
    """
    path = locate(source, FILES[:1])
    if path.is_dir():
        files = [path / name for name in FILES if (path / name).is_file()]
        if not files:
            raise UserError(f"{path}: no CLIP in it; expected one of {', '.join(FILES)}")
        path = files[0]
    weights = read(path)
    beside = {name: value for name, value in weights.items() if name.startswith(BESIDE)}
    tower = {name: value for name, value in weights.items() if name not in beside}
    named = any(name.startswith("text_model.") for name in tower)
    piece = (from_transformers if named else from_open_clip)(tower, template, f"{path}: ")
    rows = [row(path.name, tower, "text"), row(path.name, beside, "left out: not of CLIP's text tower")]
    return piece, [found for found in rows if found.tensors]


def from_open_clip(weights: Weights, template: clip.Config, where: str) -> Piece:
    """The tower from OpenCLIP's names, as sgm keeps it, too.

    Raises:
        UserError: a weight is missing, one too many, or of another shape.
    """
    width = lookup(weights, "text_projection", where).shape[1]
    hidden = lookup(weights, "token_embedding.weight", where).shape[1]
    config = _config(template, width, hidden, len(indices(weights, "transformer.resblocks.")))
    check(weights, shapes(to_openclip(on_meta(config).tower.state_dict())), where)
    return Piece(config, _named(from_openclip(weights)))


def from_transformers(weights: Weights, template: clip.Config, where: str) -> Piece:
    """The tower from transformers' names.

    Raises:
        UserError: a weight is missing, one too many, or of another shape.
    """
    width = lookup(weights, "text_projection.weight", where).shape[0]
    hidden = lookup(weights, "text_model.embeddings.token_embedding.weight", where).shape[1]
    config = _config(template, width, hidden, len(indices(weights, "text_model.encoder.layers.")))
    check(weights, shapes(on_meta(config).tower.state_dict()), where)
    return Piece(config, _named(weights))


def _config(template: clip.Config, width: int, hidden: int, layers: int) -> clip.Config:
    # Heads keep their width: it leaves no trace in the weights.
    heads = max(1, hidden * template.heads // template.hidden)
    return replace(template, width=width, hidden=hidden, layers=layers, heads=heads)


def _named(weights: Weights) -> dict[str, Tensor]:
    return {f"text.tower.{name}": value for name, value in weights.items()}
