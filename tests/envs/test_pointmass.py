import numpy as np
import pytest

from videopolicy.envs import pointmass
from videopolicy.envs.pointmass import COLOURS, DOT, HALF_WIDTHS, TASKS, draw, make
from videopolicy.errors import UserError


def centre(image, rgb):
    """Mean row and column of the pixels of a colour."""
    return np.argwhere(np.abs(image.astype(int) - rgb).max(axis=2) < 60).mean(axis=0)


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_always_gets_there(task):
    env = make(task)
    for seed in range(50):
        env.reset(seed=seed)
        expert, success, truncated = env.expert(), False, False
        while not (success or truncated):
            action = expert()
            assert env.action_space.contains(action)
            _, _, _, truncated, info = env.step(action)
            success = info["success"]
        assert success, seed


def test_standing_still_never_succeeds_and_truncates_at_the_horizon():
    env = make("reach-red")
    for seed in range(20):
        env.reset(seed=seed)
        ends = [env.step(np.zeros(2, np.float32))[2:] for _ in range(env.horizon)]
        assert [truncated for _, truncated, _ in ends] == [False] * (env.horizon - 1) + [True]
        assert not any(info["success"] or terminated for terminated, _, info in ends)


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others():
    def images(seed):
        env = make("reach-blue")
        env.reset(seed=seed)
        return env.observe().images

    assert all(np.array_equal(images(3)[view], images(3)[view]) for view in pointmass.VIEWS)
    assert not np.array_equal(images(3)["top"], images(4)["top"])


def test_only_the_instruction_tells_the_tasks_apart():
    red, blue = make("reach-red"), make("reach-blue")
    red.reset(seed=1)
    blue.reset(seed=1)
    assert np.array_equal(red.observe().images["top"], blue.observe().images["top"])
    assert red.instruction != blue.instruction


def test_the_top_view_is_upright():
    targets = {"red": np.array([-0.6, 0.6], np.float32), "blue": np.array([0.6, 0.6], np.float32)}
    image = draw("top", 64, np.array([0.0, -0.6], np.float32), targets)
    red, blue, dot = (centre(image, rgb) for rgb in (*COLOURS.values(), DOT))
    assert red[1] < dot[1] < blue[1] and red[0] == pytest.approx(blue[0]) and dot[0] > red[0]
    for found, place in ((red, (-0.6, 0.6)), (blue, (0.6, 0.6)), (dot, (0.0, -0.6))):
        expected = (np.array([-place[1], place[0]]) / HALF_WIDTHS["top"] + 1) * 32 - 0.5
        assert found == pytest.approx(expected, abs=0.5)


def test_the_close_view_keeps_the_dot_in_the_middle():
    env = make("reach-red", views=("close",), size=33)
    for seed in range(5):
        env.reset(seed=seed)
        assert centre(env.observe().images["close"], DOT) == pytest.approx([16, 16], abs=0.5)


def test_bad_names_are_refused():
    with pytest.raises(UserError, match="did you mean 'reach-red'"):
        make("reach-rod")
    with pytest.raises(UserError, match="no view 'side'"):
        make("reach-red", views=("side",))
