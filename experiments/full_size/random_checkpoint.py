"""Saves the full-size model with random weights in bfloat16 (4.9 GB): `python random_checkpoint.py FOLDER`."""

import sys
from pathlib import Path

import torch
from one_step import build

from videopolicy import checkpoint

if __name__ == "__main__":
    provenance = checkpoint.Provenance("joint", 0, notes={"weights": "random"})
    checkpoint.save(build(torch.bfloat16, "cpu").model, provenance, Path(sys.argv[1]), dtype=torch.bfloat16)
