"""The smallest folder of ALOHA's: a file an episode."""

from collections.abc import Sequence
from pathlib import Path

from tests.datasets.hdf5 import write_aloha

from videopolicy.types import Episode


def example(path: Path, episodes: Sequence[Episode]) -> Sequence[Episode]:
    write_aloha(path, episodes)
    return episodes
