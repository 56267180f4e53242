from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.actions.rotations import matrices, written
from videopolicy.datasets.transforms.resample import Resampled
from videopolicy.errors import UserError
from videopolicy.types import Episode


class InMemory:
    """One episode whose frame n is of colour n, and whose state n is n."""

    path, views, tasks, notes, fingerprint, state_layout = "memory", ("top",), ("push",), (), "memory", ""
    state_width = 1

    def __init__(self, length, fps, actions=None, layout=""):
        self.fps, self.actions, self.action_layout, self._length = fps, actions, layout, length
        self.action_width = None if actions is None else actions.shape[1]

    def __len__(self):
        return 1

    def length(self, index):
        return self._length

    def episode(self, index, views=None, start=0, stop=None):
        numbers = np.arange(self._length)[start:stop]
        frames = np.broadcast_to(np.uint8(numbers)[:, None, None, None], (len(numbers), 2, 2, 3))
        actions = None if self.actions is None else self.actions[start:stop]
        return Episode({"top": frames}, "push", self.fps, actions, np.float32(numbers)[:, None])


@given(st.integers(1, 200), st.sampled_from([10, 12.5, 24, 30, 30000 / 1001, 60]), st.sampled_from([3, 10, 24, 25, 50]))
def test_each_frame_is_the_nearest_earlier_one(length, fps, wanted):
    dataset = Resampled(InMemory(length, fps), wanted)
    episode = dataset.episode(0)
    assert len(episode) == dataset.length(0) == len(episode.states)
    own = episode.states[:, 0] / fps
    times = np.arange(len(episode)) / wanted
    assert (own <= times + 1e-6).all()
    assert (times < own + 1 / fps + 1e-6).all()
    assert times[-1] < length / fps <= times[-1] + 1 / wanted + 1e-6
    np.testing.assert_array_equal(episode.views["top"][:, 0, 0, 0], episode.states[:, 0])


@given(st.integers(1, 130), st.integers(2, 40), st.data())
def test_a_part_is_that_part_of_the_whole_and_changes_add_up(length, factor, data):
    actions = np.random.default_rng(length).normal(size=(length, 5)).astype(np.float32)
    layout = "delta_position joints:1 gripper[0,1]"
    dataset = Resampled(InMemory(length, 4.0 * factor, actions, layout), 4)
    whole = dataset.episode(0)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole) + 2))
    part = dataset.episode(0, start=start, stop=stop)
    np.testing.assert_array_equal(part.views["top"], whole.views["top"][start:stop])
    np.testing.assert_array_equal(part.actions, whole.actions[start:stop])
    np.testing.assert_allclose(whole.actions[:, :3].sum(0), actions[:, :3].sum(0), atol=1e-4)
    last = np.minimum(np.arange(len(whole)) * factor + factor, length) - 1
    np.testing.assert_array_equal(whole.actions[:, 3:], actions[last, 3:])


def test_turns_follow_each_other():
    rng = np.random.default_rng(0)
    turns = matrices(rng.normal(size=(6, 4)), "quaternion")
    dataset = Resampled(InMemory(6, 30, np.float32(written(turns, "rotation_6d")), "delta_rotation_6d"), 10)
    expected = [turns[2] @ turns[1] @ turns[0], turns[5] @ turns[4] @ turns[3]]
    np.testing.assert_allclose(matrices(dataset.episode(0).actions, "rotation_6d"), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("fps", "layout", "message"),
    [
        (7, "delta_position", r"lower by a whole factor is possible: 10, 6\.66667, 5, 4"),
        (40, "delta_position", "lower by a whole factor"),
        (10, "", "--action-layout"),
        (10, "other:3", "not known what several steps of other:3 amount to"),
        (10, "relative_position", "relative_position"),
    ],
)
def test_what_would_be_a_guess_is_refused(fps, layout, message):
    with pytest.raises(UserError, match=message):
        Resampled(InMemory(5, 20, np.zeros((5, 3), np.float32), layout), fps)


def test_videos_of_several_rates_come_to_one():
    class Several(InMemory):
        def episode(self, index, views=None, start=0, stop=None):
            return replace(super().episode(index, views, start, stop), fps=(self.fps, 2 * self.fps)[index])

    dataset = Resampled(Several(12, 15), 15)
    assert [dataset.length(index) for index in range(2)] == [12, 6]
    assert dataset.episode(1).states[:, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert dataset.episode(1).fps == 15


def test_the_same_rate_changes_nothing():
    actions = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    dataset = Resampled(InMemory(9, 20, actions), 20)
    np.testing.assert_array_equal(dataset.episode(0).actions, actions)
    assert dataset.length(0) == 9
