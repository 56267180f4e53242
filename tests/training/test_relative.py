"""Relative actions from recordings to a plan: what is learnt does not depend on where the arm's base stands."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.small import MODEL
from tests.training.arm import ACTION_LAYOUT, AHEAD, STATE_LAYOUT, TURN, arm_episode, write_arm

from videopolicy import registry
from videopolicy.policies.checkpoint import make
from videopolicy.types import Observation

CHUNK = MODEL.window.actions


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    return registry.build("datasets", "lerobot", write_arm(tmp_path_factory.mktemp("arms") / "data"))


def test_the_head_learns_one_motion_from_arms_that_stand_anywhere(arms, trainer):
    run = trainer(data=arms, model=replace(MODEL, relative=True))
    config, normalizer = run.objective.model.config, run.clips.normalizer
    assert (config.action_layout, config.state_layout) == (ACTION_LAYOUT, STATE_LAYOUT)
    np.testing.assert_allclose(normalizer.low[:3], [AHEAD, 0, 0], atol=2e-6)
    np.testing.assert_allclose(normalizer.high[:3], [AHEAD * CHUNK, 0, 0], atol=2e-6)
    assert (normalizer.low[9], normalizer.high[9]) == (-1, 1)
    starts = [episode * len(arm_episode(0)) for episode in range(len(arms))]
    chunks = run.clips.batch(np.array(starts), None).actions
    np.testing.assert_allclose(chunks, chunks[:1].repeat(len(arms), 0), atol=1e-4)


def test_a_plan_goes_on_from_where_the_arm_is(arms, trainer):
    run = trainer(data=arms, model=replace(MODEL, relative=True))
    run.train()
    policy = make(run.run / "checkpoint")
    assert (policy.spec.action_width, policy.spec.state_layout) == (7, STATE_LAYOUT)
    elsewhere = arm_episode(99)
    state = elsewhere.states[0]
    seen = Observation({"top": elsewhere.views["top"][0]}, "go ahead", state)
    actions = policy.plan([seen], [0], False)[0].actions
    now = Rotation.from_quat(state[3:])
    # All that was ever shown is straight ahead and about that axis; after a few steps of training, how far is a guess.
    ahead, *aside = now.inv().apply(actions[:, :3] - state[:3]).T
    np.testing.assert_allclose(aside, 0, atol=1e-5)
    assert AHEAD - 1e-5 <= ahead.min() < ahead.max() <= AHEAD * CHUNK + 1e-5
    turn, *across = (now.inv() * Rotation.from_rotvec(actions[:, 3:6])).as_rotvec().T
    np.testing.assert_allclose(across, 0, atol=1e-5)
    assert 0 < turn.min() < turn.max() < 2 * TURN * CHUNK
