"""Copies a checkpoint into one of the same weights whose mode exact takes thirty steps: python thirty.py FROM TO."""

import sys
from dataclasses import replace
from pathlib import Path

from videopolicy.checkpoint import load, save


def main() -> None:
    """Copies."""
    source, target = map(Path, sys.argv[1:])
    model, provenance = load(source)
    model.config = replace(model.config, sampling=replace(model.config.sampling, steps=30))
    save(model, provenance, target)


if __name__ == "__main__":
    main()
