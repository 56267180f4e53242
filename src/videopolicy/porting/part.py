"""One part of a pipeline of diffusers' as a folder: what describes it, and its weights, whole or in several files."""

import json
from pathlib import Path
from typing import Any

from videopolicy.errors import UserError
from videopolicy.porting.sources import Weights, read

CONFIG = "config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
# Says which of several files each weight is in.
INDEX = "diffusion_pytorch_model.safetensors.index.json"


def open_part(folder: Path, title: str) -> tuple[dict[str, Any], Weights, str]:
    """What describes the part, its weights, and the file that messages about them begin with.

    Args:
        folder: of the part.
        title: what it is a part of, for messages.

    Raises:
        UserError: a file is missing or damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a folder of {title} as diffusers keeps it")
    try:
        facts = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise undescribed(folder, title, error) from error
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if files:
        return facts, read(files[0]), f"{files[0]}: "
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder / WEIGHTS[0]}: no such file")
    return facts, _read_several(folder), f"{folder / INDEX}: "


def undescribed(folder: Path, title: str, error: Exception) -> UserError:
    """What to raise where the description lacks a fact, or has one of another type."""
    return UserError(f"{folder / CONFIG}: does not describe a part of {title} ({error!r})")


def _read_several(folder: Path) -> Weights:
    path = folder / INDEX
    try:
        named = sorted(set(dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"]).values()))
        inside = all(Path(name).name == name for name in named)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: does not say which weights are where ({error!r}); download it again") from error
    if not inside:
        raise UserError(f"{path}: names files elsewhere than beside it; download it again")
    return {name: value for file in named for name, value in read(folder / file).items()}
