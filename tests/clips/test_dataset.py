import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.cache import build_cache
from videopolicy.clips.dataset import Clips
from videopolicy.clips.normalize import MinMax
from videopolicy.clips.order import epoch_order
from videopolicy.clips.windows import Window
from videopolicy.errors import UserError

WINDOW = Window(frames=3, stride=2, actions=5)
VIEWS = ["front", "wrist"]


@pytest.fixture
def cache(dataset, encode, tmp_path):
    return build_cache(dataset, tmp_path / "cache", encode, VIEWS, copies=2, jitter=ColorJitter(), key="encoder")


@pytest.fixture
def clips(cache):
    return Clips([cache], WINDOW)


def test_every_step_of_every_episode_starts_a_clip(clips, dataset, encode):
    assert len(clips) == 11 + 9 + 70
    index = 0
    for episode in dataset.episodes:
        codes = np.stack([encode(episode.views[view]).astype(np.float16) for view in VIEWS])
        for start in range(len(episode)):
            clip = clips[index, 0]
            now, *later = WINDOW.frame_indices(start, len(episode))
            np.testing.assert_array_equal(clip.current, codes[:, now])
            np.testing.assert_array_equal(clip.future, codes[:, later])
            assert clip.instruction == episode.instruction
            if episode.actions is None:
                assert clip.actions is None
            else:
                executed = episode.actions[WINDOW.action_indices(start, len(episode))]
                np.testing.assert_allclose(clips.normalizer.invert(clip.actions), executed, atol=1e-5)
            index += 1


def test_a_batch_holds_the_clips_that_were_asked_for(clips):
    indices = np.array([89, 0, 15, 0])
    batch = clips.batch(indices, np.random.default_rng(0))
    assert batch.current.shape == (4, 2, 3, 2, 2)
    assert batch.future.shape == (4, 2, 3, 3, 2, 2)
    assert batch.actions.shape == (4, 5, 3)
    assert batch.current.dtype == batch.future.dtype == batch.actions.dtype == np.float32
    assert batch.has_actions.tolist() == [True, True, False, True]
    assert not batch.actions[2].any()
    for row, index in enumerate(indices):
        copies = [clips.clip(index, copy) for copy in (0, 1)]
        assert any(np.array_equal(batch.current[row], clip.current) for clip in copies)
        assert any(np.array_equal(batch.future[row], clip.future) for clip in copies)
        assert batch.instructions[row] == copies[0].instruction
        if copies[0].actions is not None:
            np.testing.assert_array_equal(batch.actions[row], copies[0].actions)


def test_a_batch_draws_every_copy_and_only_the_generator_decides_which(clips):
    indices = np.zeros(32, int)
    first, again = (clips.batch(indices, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.current, again.current)
    assert len(np.unique(first.current.reshape(32, -1), axis=0)) == 2


def test_the_current_and_the_future_frames_are_of_one_copy(clips):
    batch = clips.batch(np.full(32, 30), np.random.default_rng(3))
    for current, future in zip(batch.current, batch.future, strict=True):
        copy = int(np.array_equal(current, clips.clip(30, 1).current))
        np.testing.assert_array_equal(future, clips.clip(30, copy).future)


def test_normalised_actions_fill_the_range_of_the_known_ones(clips):
    batch = clips.batch(np.arange(len(clips)), np.random.default_rng(0))
    assert batch.actions.min() == -1
    assert batch.actions.max() == 1


def test_a_given_normaliser_is_used(cache):
    clips = Clips([cache], WINDOW, MinMax((-10.0,) * 3, (10.0,) * 3))
    np.testing.assert_allclose(clips[0, 0].actions * 10, cache.actions[:5], atol=1e-5)
    with pytest.raises(UserError, match="3 wide, but the normaliser was fitted to 2"):
        Clips([cache], WINDOW, MinMax((0.0,) * 2, (1.0,) * 2))


def test_video_without_actions_has_batches_too(dataset, encode, tmp_path):
    silent = dataset.changed(0, actions=None).changed(2, actions=None)
    cache = build_cache(silent, tmp_path / "cache", encode, VIEWS, key="encoder")
    clips = Clips([cache], WINDOW)
    assert clips.normalizer is None
    assert clips.batch(np.array([0, 1]), np.random.default_rng(0)).actions.shape == (2, 5, 0)
    known = Clips([cache], WINDOW, MinMax((0.0,) * 4, (1.0,) * 4))
    batch = known.batch(np.array([0, 1]), np.random.default_rng(0))
    assert batch.actions.shape == (2, 5, 4)
    assert not batch.has_actions.any()


def test_the_instructions_are_listed_once(clips):
    assert clips.instructions == ("move 11 steps", "move 70 steps", "move 9 steps")


def test_an_episode_shorter_than_a_window_is_refused(cache):
    with pytest.raises(UserError, match="episode 1 has 9 control steps, but a window spans 10"):
        Clips([cache], Window(frames=1, stride=1, actions=10))


@pytest.mark.parametrize("key", [(90, 0), (-1, 0), (0, 2)])
def test_a_clip_that_is_not_there_is_refused(clips, key):
    with pytest.raises(IndexError):
        clips[key]


@given(st.integers(0, 200), st.integers(0, 99), st.integers(0, 99))
def test_an_epoch_visits_every_clip_once_in_an_order_of_its_own(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    assert sorted(order) == list(range(n))
    np.testing.assert_array_equal(order, epoch_order(n, seed, epoch))
    if n > 10:
        assert (order != epoch_order(n, seed, epoch + 1)).any()
        assert (order != epoch_order(n, seed + 1, epoch)).any()


def test_a_batch_is_read_in_a_moment(dataset, tmp_path):
    codes = np.random.default_rng(0).normal(size=(1, 16, 8, 8)).astype(np.float32)
    cache = build_cache(dataset, tmp_path / "cache", lambda f: np.repeat(codes, len(f), 0), ["front"], key="wide")
    clips = Clips([cache], Window(frames=4, stride=2, actions=8))
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(20):
        indices = rng.integers(len(clips), size=16)
        started = time.perf_counter()
        clips.batch(indices, rng)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.003
