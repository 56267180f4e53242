"""Tensors drawn from their own names, so that a golden file stores what was computed and neither weights nor inputs.

A CPU generator seeded with the CRC-32 of the name draws float32 normals n. An input is n itself; a parameter is

    name ends in "mix_factor"              n
    two or more dimensions                 n / sqrt(elements of one output row)
    one, and the name ends in "weight"     1 + n / 10
    one otherwise                          n / 10
"""

from math import prod, sqrt
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import load_file
from torch import Tensor


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """The input of this name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(crc32(name.encode())))


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """The parameter of this name."""
    drawn = noise(name, shape)
    if name.endswith("mix_factor"):
        return drawn
    if len(shape) > 1:
        return drawn / sqrt(prod(shape[1:]))
    return 1 + drawn / 10 if name.endswith("weight") else drawn / 10


def golden(name: str) -> dict[str, Tensor]:
    """The stored numbers of one golden file: "diffusion", "unet", "heads" or "vae"."""
    return load_file(Path(__file__).with_name(f"{name}.safetensors"))
