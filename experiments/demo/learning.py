"""What each change of preset `tiny` gives after the same time: trains its variants on one data set, by turns.

videopolicy record --task button-press-topdown-v3 --episodes 50 --views corner2 --out runs/press
videopolicy record --task button-press-topdown-v3 --episodes 30 --seed 77000 --views corner2 --out runs/held
OMP_NUM_THREADS=1 python experiments/demo/learning.py --data runs/press --out runs/learning --seconds 250
OMP_NUM_THREADS=1 python experiments/demo/aim.py --data runs/held runs/learning/*/checkpoint
"""

import argparse
from dataclasses import replace
from pathlib import Path

from videopolicy.clips.windows import Window
from videopolicy.diffusion.noise import joint
from videopolicy.latents import pca
from videopolicy.presets.base import Preset
from videopolicy.presets.tiny import PRESET
from videopolicy.training.run import train

# Steps enough that the time ends a run.
STEPS = 100_000


def variants() -> dict[str, Preset]:
    """From the first edition's recipe to today's, each with the changes of those before it."""
    today = PRESET
    four_frames = _with(today, window=Window(frames=4, stride=8, actions=16))
    moving = _with(four_frames, latents=pca.Config(channels=32))
    paper = replace(moving, training=replace(moving.training, noise=joint.Config()))
    long = _with(paper, window=Window(frames=4, stride=8, actions=32))
    long = replace(long, training=replace(long.training, normalize="minmax"))
    first = replace(long, training=replace(long.training, lr=5e-4, head_lr=5e-4))
    return {
        "0-first-edition": first,
        "1-twice-the-learning-rate": long,
        "2-chunks-of-16-scaled-by-deviation": paper,
        "3-noise-near-where-plans-begin": moving,
        "4-what-stands-still-is-nothing": four_frames,
        "5-two-frames": today,
    }


def _with(preset: Preset, **changes: object) -> Preset:
    return replace(preset, model=replace(preset.model, **changes))


def main() -> None:
    """Trains what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=tuple(variants()), default=tuple(variants()))
    told = parser.parse_args()
    for name in told.only:
        preset = variants()[name]
        often = {"validate_every": STEPS, "save_every": STEPS}
        recipe = replace(preset.training, steps=STEPS, minutes=told.seconds / 60, seed=told.seed, **often)
        train([told.data], preset.model, recipe, told.out / name)


if __name__ == "__main__":
    main()
