"""What a process that builds a cache needs of these tests; no torch, so that it starts fast."""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from videopolicy.clips import building
from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.cache import build_cache
from videopolicy.clips.windows import Window
from videopolicy.datasets.lerobot import open_dataset

WINDOW = Window(frames=4, stride=2, actions=3)
SETTINGS = {"views": ["top", "close"], "copies": 2, "jitter": ColorJitter(), "key": "means"}


def means(frames):
    """The mean colour of every square of 8 pixels."""
    n, height, width, _ = frames.shape
    return frames.reshape(n, height // 8, 8, width // 8, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2).astype(np.float32)


def window_means(windows):
    """The same of the first frame of each window, then of each two after it, the later of which weighs more."""
    count, _, height, width, _ = windows.shape
    codes = means(windows.reshape(-1, height, width, 3)).reshape(count, -1, 3, height // 8, width // 8)
    return np.concatenate((codes[:, :1], codes[:, 1::2] / 4 + codes[:, 2::2] * 3 / 4), 1)


class Deadly:
    """A data set that kills whoever decodes its fourth episode, but the process of the test."""

    def __init__(self, path):
        self._inner, self._test = open_dataset(path), os.getpid()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __len__(self):
        return len(self._inner)

    def __getstate__(self):
        return self.__dict__

    def __setstate__(self, state):
        self.__dict__.update(state)

    def episode(self, index, *where):
        if index == 3 and os.getpid() != self._test:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._inner.episode(index, *where)


def stopping(encode, done, episodes):
    """Encodes, but stops the process once so many episodes are done, until somebody lets it go on."""

    def encoding(frames):
        nonlocal episodes
        if episodes and done.exists() and len(done.read_text(encoding="utf-8").splitlines()) >= episodes:
            episodes = 0
            os.kill(os.getpid(), signal.SIGSTOP)
        return encode(frames)

    return encoding


if __name__ == "__main__":
    building.SYNC_EVERY = 0.0
    data, folder, done, kind, episodes = sys.argv[1:]
    encode, window = (window_means, WINDOW) if kind == "windows" else (means, None)
    encode = stopping(encode, Path(done), int(episodes))
    build_cache(open_dataset(Path(data)), Path(folder), encode, window=window, workers=1, **SETTINGS)
