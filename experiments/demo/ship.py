"""Makes a run's checkpoint fit to ship, in half precision with its success in the card: `python ship.py RUN FOLDER`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from videopolicy import checkpoint


def main(run: Path, folder: Path) -> None:
    """Saves RUN/checkpoint in fp16 under FOLDER."""
    model, provenance = checkpoint.load(run / "checkpoint")
    success = json.loads((run / "demo.json").read_text(encoding="utf-8"))["success"]
    notes = {**provenance.notes, "in closed loop, unseen starts": success, "made by": "`videopolicy demo`"}
    checkpoint.save(model, replace(provenance, notes=notes), folder, dtype=torch.float16)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
