"""How good are labels? Compares those of a study's labelled data with the actions that were recorded and not shown.

    python labels.py STUDY [--runs runs/generalisation]

Of every training that labelled, the correlation of each action dimension, and the share of its variance that the labels
explain, over all steps that were labelled. What moves is what was executed, the expert's action and noise; what was
recorded is the expert's alone. Actions are compared as an env executes them, from -1 to 1. Figures land in
figures/STUDY_labels.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from studies import STUDIES

from videopolicy.datasets.formats import open_any

HERE = Path(__file__).parent


def main() -> None:
    """Compares all labelled data sets of a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--runs", type=Path, default=Path("runs/generalisation"))
    options = parser.parse_args()
    recorded = options.runs / "data" / STUDIES[options.study].data
    found = {
        folder.name.removesuffix("-labels-data"): compare(recorded, folder)
        for folder in sorted((options.runs / options.study).glob("*-labels-data"))
    }
    text = json.dumps(found, indent=1)
    (HERE / "figures" / f"{options.study}_labels.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def compare(recorded: Path, labelled: Path) -> dict[str, object]:
    """Labels beside what was recorded of the same steps, by action dimension."""
    truth, data = open_any(recorded, None), open_any(labelled, None)
    pairs, confidences = [], []
    for index in range(len(data)):
        one, other = data.episode(index, ()), truth.episode(index, ())
        if one.labelled_by and one.actions is not None and other.actions is not None:
            pairs.append(np.clip((other.actions, one.actions), -1, 1))
            confidences.append(one.confidence)
    true, read = np.concatenate(pairs, axis=1)
    # A dimension that hardly moves has no variance to explain.
    moves = true.std(0) > 0.01
    return {
        "episodes": len(pairs),
        "confidence": [round(float(q), 3) for q in np.quantile(confidences, (0, 0.5, 1))],
        "correlation": [
            round(float(np.corrcoef(true[:, k], read[:, k])[0, 1]), 2) if moves[k] else None for k in range(len(moves))
        ],
        "explained": [
            round(1 - float(np.square(true[:, k] - read[:, k]).mean() / true[:, k].var()), 2) if moves[k] else None
            for k in range(len(moves))
        ],
        "mean error": [round(float(error), 2) for error in np.abs(true - read).mean(0)],
    }


if __name__ == "__main__":
    main()
