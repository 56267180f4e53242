"""Trains on a data set: python examples/train.py DATA OUT."""

import sys
from dataclasses import replace
from pathlib import Path

from videopolicy import open_dataset, preset, train


def main(data: Path, out: Path, **changes) -> Path:
    """Trains preset tiny on the first camera of a data set; returns the checkpoint's folder."""
    dataset, tiny = open_dataset(data), preset("tiny")
    model = replace(tiny.model, views=dataset.views[:1])
    return train(dataset, model, replace(tiny.training, **changes), out)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2]), minutes=12.0))
