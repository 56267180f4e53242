"""The smallest folder of videos, each with a caption."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from videopolicy.media import write_mp4
from videopolicy.types import Episode


def example(path: Path, episodes: Sequence[Episode]) -> Sequence[Episode]:
    path.mkdir(parents=True)
    rows = [("file", "caption")]
    for number, episode in enumerate(episodes):
        write_mp4(path / f"{number}.mp4", episode.views["left"], episode.fps, crf=5, full_colour=True)
        rows.append((f"{number}.mp4", episode.instruction))
    with (path / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    # Videos have no actions, no states, and one view.
    return [replace(one, views={"video": one.views["left"]}, actions=None, states=None) for one in episodes]
