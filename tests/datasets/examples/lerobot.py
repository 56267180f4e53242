"""The smallest data set in the project's own format."""

from collections.abc import Sequence
from pathlib import Path

from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.types import Episode


def example(path: Path, episodes: Sequence[Episode]) -> Sequence[Episode]:
    with Writer(path, episodes[0].fps, tuple(episodes[0].views)) as writer:
        for episode in episodes:
            writer.add(episode)
    return episodes
