"""Files of weights -> tensors by name, mapped from disk: nothing is read before it is used, and no code is run."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from videopolicy.errors import UserError, first_line

Weights = Mapping[str, Tensor]

SAFE = ".safetensors"
TORCH = (".ckpt", ".pt", ".pth", ".bin")
# What torch says of a class that weights alone do not need.
FOREIGN = re.compile(r"GLOBAL ([\w.]+)")


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file.

    Args:
        path: `.safetensors`, or what torch saved (`.ckpt`, `.pt`, `.pth`, `.bin`): a state dict, or one under the key
            "state_dict" as Lightning keeps it.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds more than weights.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == SAFE:
        return _read_safetensors(path)
    if path.suffix in TORCH:
        return _read_torch(path)
    raise UserError(f"{path}: weights are read from files that end in {', '.join((SAFE, *TORCH))}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({first_line(error)}); download it again") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    # Every part of torch's reader fails in a way of its own on a damaged file.
    except Exception as error:
        foreign = FOREIGN.search(str(error))
        if foreign:
            raise UserError(
                f"{path}: holds a pickled {foreign[1]}, which is no weight; reading it could run its code, so it is "
                "refused. Where you trust it, save its state_dict alone and import that"
            ) from error
        raise UserError(f"{path}: not a whole file of weights ({first_line(error)}); download it again") from error
    weights = held.get("state_dict", held) if isinstance(held, dict) else held
    if not isinstance(weights, dict) or not weights:
        raise UserError(f"{path}: holds no weights by name")
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {name!r} is no weight but of type {type(value).__name__}")
    return weights
