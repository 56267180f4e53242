"""One plan as a picture, imagined above and executed below: `python picture.py RECORDING STEP PICTURE`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from videopolicy.rollout.recordings import load

SCALE = 3
GAP = 4


def main(folder: Path, step: int, picture: Path) -> None:
    """Draws the plan made at this control step, in the first view."""
    recording = load(folder)
    plan = next(plan for plan in recording.plans if plan.step == step)
    view, executed = next(iter(recording.executed.items()))
    now = [executed[step]]
    imagined = now + list(plan.frames[view])
    followed = now + [executed[min(target, recording.length - 1)] for target in plan.targets]
    rows = [
        np.concatenate([np.pad(frame, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for frame in row], 1)
        for row in (imagined, followed)
    ]
    rows[0] = np.pad(rows[0], ((0, GAP), (0, 0), (0, 0)), constant_values=255)
    pixels = np.concatenate(rows)[:, :-GAP]
    size = (pixels.shape[1] * SCALE, pixels.shape[0] * SCALE)
    Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
