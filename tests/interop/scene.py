"""The recordings that both sides of the exchange know: NumPy only, for any Python from 3.10 on."""

from dataclasses import dataclass, field

import numpy as np

FPS = 10
VIEWS = {"observation.images.front-left": (64, 96), "image": (48, 48)}
WIDTHS = {"action": 3, "observation.state": 5}
LENGTHS = (23, 40, 7, 31)
TASKS = ("stack the cups", "put the cup back")
# The third episode changes its mind after two of its seven steps.
CHANGES = {2: 2}


@dataclass(frozen=True)
class Recording:
    """One episode: views name -> (N, H, W, 3), vectors name -> (N, D), and the instruction of each step."""

    views: dict = field(default_factory=dict)
    vectors: dict = field(default_factory=dict)
    tasks: tuple = ()


def recordings():
    """Every episode: a bright bar that moves one pixel a step over a ground of its own, so that no two frames agree."""
    return [_recording(index, length) for index, length in enumerate(LENGTHS)]


def _recording(index, length):
    rng = np.random.default_rng(index)
    vectors = {name: rng.normal(size=(length, width)).astype(np.float32) for name, width in WIDTHS.items()}
    views = {name: _frames(length, size, rng) for name, size in VIEWS.items()}
    before = CHANGES.get(index, 0)
    tasks = [TASKS[(index + (step < before)) % 2] for step in range(length)]
    return Recording(views, vectors, tuple(tasks))


def _frames(length, size, rng):
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    ground = np.stack([2 * rows, 2 * columns, rows + columns], axis=-1) + rng.integers(0, 60, 3)
    frames = np.repeat(ground[None].astype(np.uint8), length, axis=0)
    for step in range(length):
        frames[step, :, step : step + 6] = (250, 240, 30)
        frames[step, step % size[0], :] = (10, 20, 200)
    return frames
