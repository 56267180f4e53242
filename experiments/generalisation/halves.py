"""Which half of the work space the button stands in: `python halves.py > half_space.toml` writes the protocol.

The hand ends above the button, so the last state of an episode tells where that is.
"""

from videopolicy import registry
from videopolicy.datasets.base import Dataset
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, Env

TASK = "button-press-topdown-v3"
EPISODES = 50
# Metres; the button stands up to 0.1 to either side of the robot's middle line.
MIDDLE = 0.0
# Control steps, enough for the expert to press the button.
STEPS = 75
HEADER = """# Buttons to the right of the middle, where no episode with actions had its button; made by halves.py.
title = "Half space: video of everywhere, actions of the left half, tested in the right half"
env = "metaworld"
episodes = {episodes}

[[task]]
name = "{task}"
seeds = [
{seeds}
]"""


def left(data: Dataset) -> list[int]:
    """Numbers of the demonstrations whose button stands to the left of the middle."""
    ends = [data.episode(number, ()).states[-1, 0] for number in range(len(data))]
    return [number for number, end in enumerate(ends) if end < MIDDLE]


def right() -> list[int]:
    """The first seeds of evaluation with the button to the right of the middle."""
    env = registry.build("envs", "metaworld", TASK)
    seeds, seed = [], EVALUATION_SEED_OFFSET
    while len(seeds) < EPISODES:
        if _pressed_at(env, seed) > MIDDLE:
            seeds.append(seed)
        seed += 1
    return seeds


def _pressed_at(env: Env, seed: int) -> float:
    """Where the expert's hand ends, across the table."""
    state, _ = env.reset(seed=seed)
    act = env.expert()
    for _ in range(STEPS):
        state, *_ = env.step(act())
    return float(state[0])


if __name__ == "__main__":
    rows = "\n".join(f"    {seed}," for seed in right())
    print(HEADER.format(episodes=EPISODES, task=TASK, seeds=rows))
