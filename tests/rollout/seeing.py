"""A policy for the point-mass env that works from the image: it sees where the disc is and heads there.

As a script it evaluates itself until it is killed: `python seeing.py OUT EPISODES LINES`, see `Killed`.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from videopolicy.envs.pointmass import COLOURS, HALF_WIDTHS, STRIDE, draw
from videopolicy.policies.base import PolicySpec
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.settings import Settings
from videopolicy.types import Plan


class SeeingPolicy:
    views, size = ("top", "close"), 32

    def __init__(self, noise=1.5, length=12, offsets=(4, 8)):
        self.noise, self.length, self.offsets = noise, length, offsets
        tasks, sampling = ("reach-red", "reach-blue"), {"noise": noise}
        self.spec = PolicySpec(self.views, self.size, 2, length, execute=5, tasks=tasks, sampling=sampling)
        self.batches = []

    def plan(self, observations, seeds, imagine):
        self.batches.append(len(observations))
        imagine = [imagine] * len(seeds) if isinstance(imagine, bool) else imagine
        return [self._plan(*each) for each in zip(observations, seeds, imagine, strict=True)]

    def _plan(self, observation, seed, imagine):
        targets = {colour: find(observation.images["top"], rgb) for colour, rgb in COLOURS.items()}
        goal = targets[observation.instruction.split()[2]]
        noise = np.random.default_rng(seed).normal(0, self.noise, (self.length, 2))
        dot, path, actions = observation.state, [], []
        for each in noise:
            actions.append(np.clip((goal - dot) / STRIDE + each, -1, 1))
            dot = np.clip(dot + STRIDE * actions[-1], -1, 1)
            path.append(dot)
        imagined = None
        if imagine:
            shown = [path[offset - 1] for offset in self.offsets]
            imagined = {view: np.stack([draw(view, self.size, dot, targets) for dot in shown]) for view in self.views}
        return Plan(np.array(actions, np.float32), imagined, self.offsets)


def find(image, rgb, half=HALF_WIDTHS["top"]):
    """Where the pixels of a colour are, on the plane."""
    match = np.abs(image.astype(float) - rgb).max(axis=2) < 60
    rows, columns = np.nonzero(match)
    place = np.array([columns.mean(), -rows.mean()]) + np.array([0.5, -0.5])
    return half * (place / image.shape[0] * 2 + np.array([-1, 1]))


class Killed(SeeingPolicy):
    """Ends its process on the spot instead of planning, once so many lines are in the file."""

    def __init__(self, file, lines):
        super().__init__()
        self.file, self.lines = file, lines

    def plan(self, *batch):
        if self.file.exists() and self.file.read_bytes().count(b"\n") >= self.lines:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().plan(*batch)


if __name__ == "__main__":
    out, episodes, lines = Path(sys.argv[1]), *map(int, sys.argv[2:])
    settings = Settings("pointmass", ("reach-red", "reach-blue"), episodes, execute=6, record=1)
    evaluate(Killed(out / "results.jsonl", lines), settings, out, workers=2)
