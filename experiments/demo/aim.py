"""Does a policy see where the button is? Its first moves against the expert's, on demonstrations that it never saw.

    videopolicy record --task button-press-topdown-v3 --episodes 30 --seed 77000 --views corner2 --out runs/held
    OMP_NUM_THREADS=1 python experiments/demo/aim.py --data runs/held runs/*/checkpoint

The hand begins in one place and the button in another one each time, so the first moves sideways (dimension 0) say
whether the picture is heeded: a slope of 1 where they are the expert's, of 0 where they are the same whatever is seen.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from videopolicy.datasets.lerobot import open_dataset
from videopolicy.policies.checkpoint import make
from videopolicy.types import Observation

STEPS, EXECUTED, SIDEWAYS = (0, 4, 8, 16, 32), 8, 0


def main() -> None:
    """Prints a line for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    told = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(told.data)
    for folder in told.checkpoints:
        policy = make(folder)
        errors, said, right = [], [], []
        for index in range(len(dataset)):
            episode = dataset.episode(index, policy.spec.views, 0, dataset.length(index))
            assert episode.actions is not None
            for step in (one for one in STEPS if one + EXECUTED <= len(episode)):
                seen = Observation({view: frames[step] for view, frames in episode.views.items()}, episode.instruction)
                planned = policy.plan([seen], [index], False)[0].actions[:EXECUTED]
                expert = episode.actions[step : step + EXECUTED]
                errors.append(np.abs(planned - expert).mean())
                if step == 0:
                    said.append(planned[:, SIDEWAYS].mean())
                    right.append(expert[:, SIDEWAYS].mean())
        slope = np.polyfit(right, said, 1)[0]
        print(f"{folder}: slope {slope:.2f}, mean absolute error of the moves executed {np.mean(errors):.4f}")


if __name__ == "__main__":
    main()
