"""Recordings of an arm that makes the same motion of its gripper wherever its base stands."""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.types import Episode

ACTION_LAYOUT, STATE_LAYOUT = "position axis_angle gripper[-1,1]", "position quaternion"
STEPS, SIZE = 16, 32
# What the gripper does in one control step, seen from itself: it goes ahead and turns about its own axis.
AHEAD, TURN = 0.02, 0.05


def write_arm(path: Path, episodes: int = 3) -> Path:
    """Episodes that differ in the base's place alone, and so in every absolute pose."""
    with Writer(path, 20, ("top",), action_layout=ACTION_LAYOUT, state_layout=STATE_LAYOUT) as writer:
        for seed in range(episodes):
            writer.add(arm_episode(seed))
    return path


def arm_episode(seed: int) -> Episode:
    """One of them; the action at a step is the pose at the next."""
    rng = np.random.default_rng(seed)
    base, place = Rotation.random(rng=rng), rng.uniform(-3, 3, 3)
    turns = base * Rotation.from_rotvec(np.outer(np.arange(STEPS + 1), [TURN, 0, 0]))
    places = place + base.apply(np.outer(np.arange(STEPS + 1), [AHEAD, 0, 0]))
    gripper = np.where(np.arange(STEPS) < STEPS // 2, -1, 1)[:, None]
    actions = np.concatenate((places[1:], turns[1:].as_rotvec(), gripper), 1)
    states = np.concatenate((places[:-1], turns[:-1].as_quat()), 1)
    frames = rng.integers(0, 256, (STEPS, SIZE, SIZE, 3), dtype=np.uint8)
    return Episode({"top": frames}, "go ahead", 20, actions.astype(np.float32), states.astype(np.float32))
