"""An evaluation in the point-mass env of which it is known why each episode fails."""

import numpy as np
import pytest
from tests.rollout.seeing import SeeingPolicy, find

from videopolicy import registry
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.diagnosis import demonstrations
from videopolicy.diagnosis.inverse import fit
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.envs.pointmass import COLOURS, STRIDE, draw
from videopolicy.rollout.demonstrate import record_episode
from videopolicy.rollout.results import read_evaluation
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.settings import Settings
from videopolicy.types import Plan

EPISODES, OTHERS = 12, 24


class FaultyPolicy(SeeingPolicy):
    """Where the goal is far to the right, it fails: for the red disc by its actions alone, for the blue by its video.

    Then its actions stay where they are, whatever its video shows; or its video heads for the other disc, and its
    actions follow.
    """

    views = ("top",)

    def _plan(self, observation, seed, imagine):
        targets = {colour: find(observation.images["top"], rgb) for colour, rgb in COLOURS.items()}
        colour = observation.instruction.split()[2]
        faulty = targets[colour][0] > 0.2
        goal = targets["red" if colour == "blue" and faulty else colour]
        actions, shown, dot = [], [], observation.state
        for _ in range(self.length):
            action = np.clip((goal - dot) / STRIDE, -1, 1)
            dot = np.clip(dot + STRIDE * action, -1, 1)
            shown.append(dot)
            actions.append(np.zeros(2) if colour == "red" and faulty else action)
        frames = [draw("top", self.size, shown[offset - 1], targets) for offset in self.offsets]
        return Plan(np.array(actions, np.float32), {"top": np.stack(frames)} if imagine else None, self.offsets)


@pytest.fixture(scope="session")
def demonstrated(tmp_path_factory):
    """The expert, also from where the evaluation begins: discs may be anywhere, so no other end looks like its own."""
    path = tmp_path_factory.mktemp("diagnosis") / "data"
    with Writer(path, 20, ("top",)) as writer:
        for task in ("reach-red", "reach-blue"):
            env = registry.build("envs", "pointmass", task, views=("top",), size=32)
            for seed in (*range(OTHERS), *range(EVALUATION_SEED_OFFSET, EVALUATION_SEED_OFFSET + EPISODES)):
                writer.add(record_episode(env, seed, noise=0.1, steps=16))
    return path


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """The folder of an evaluation, all of it recorded, and its results."""
    out = tmp_path_factory.mktemp("diagnosis") / "evaluation"
    settings = Settings("pointmass", ("reach-red", "reach-blue"), EPISODES, execute=6, record=EPISODES)
    # The second frame lies far enough ahead to show the goal, wherever an episode begins.
    evaluate(FaultyPolicy(noise=0.0, length=24, offsets=(4, 24)), settings, out)
    return out, read_evaluation(out)[1]


@pytest.fixture(scope="session")
def shown(demonstrated):
    """The space of the demonstrations, and they in it."""
    return demonstrations.read(open_any(demonstrated), ("top",))


@pytest.fixture(scope="session")
def fitted(shown):
    """What reads actions from frames, and how well."""
    return fit(shown[1], [4], seed=0)
