"""The smallest file of robomimic's."""

from collections.abc import Sequence
from pathlib import Path

from tests.datasets.hdf5 import write_any

from videopolicy.types import Episode


def example(path: Path, episodes: Sequence[Episode]) -> Sequence[Episode]:
    write_any(path, episodes)
    return episodes
