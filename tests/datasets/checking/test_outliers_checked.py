"""Values far outside the usual range, as a check of a data set tells of them."""

import numpy as np

from videopolicy.datasets.checking import problems as kinds
from videopolicy.datasets.checking import text
from videopolicy.datasets.checking.checks import examine
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.types import Episode

EPISODES, STEPS = 4, 60


def written(path, still=(), **spikes):
    """A set whose dimensions rise from -1 to 1 in every episode; field -> (step, dimension) -> value."""
    frames = np.random.default_rng(0).integers(0, 255, (EPISODES * STEPS, 32, 32, 3)).astype(np.uint8)
    for first, last in still:
        frames[first:last] = frames[first]
    vectors = {}
    for name, width in (("actions", 3), ("states", 2)):
        vectors[name] = np.tile(np.linspace(-1, 1, STEPS, dtype=np.float32)[:, None], (EPISODES, width))
        vectors[name] += np.arange(EPISODES * STEPS, dtype=np.float32)[:, None] * 1e-6
        for place, value in spikes.get(name, {}).items():
            vectors[name][place] = value
    with Writer(path, 20, ("top",)) as writer:
        for part in np.split(np.arange(EPISODES * STEPS), EPISODES):
            actions, states = (vectors[name][part] for name in ("actions", "states"))
            writer.add(Episode({"top": frames[part]}, "go", 20, actions, states))
    return open_any(path)


def test_dimensions_of_actions_and_states_are_told_with_their_episodes(tmp_path):
    spikes = {"actions": {(77, 1): 1000, (200, 1): -30}, "states": {(5, 0): 12}}
    found = examine(written(tmp_path / "data", **spikes))
    assert [(problem.kind, problem.detail, problem.episodes) for problem in found.problems] == [
        (
            kinds.OUTLIERS,
            "dimension 1 of the actions: 2 values are far outside the usual range, -1 to 1, as far as 1000",
            (1, 3),
        ),
        (kinds.OUTLIERS, "dimension 0 of the states: 1 value is far outside the usual range, -1 to 1: 12", (0,)),
    ]
    assert "--normalize quantile" in text.remedy(kinds.OUTLIERS, found) and found.errors == 0
    assert examine(written(tmp_path / "clean")).problems == []


def test_frozen_frames_are_seen_beside_a_spike(tmp_path):
    found = examine(written(tmp_path / "data", still=[(70, 110)], actions={(200, d): 1000 for d in range(3)}))
    frozen = [problem.episodes for problem in found.problems if problem.kind is kinds.FROZEN]
    assert frozen == [(1,)]
