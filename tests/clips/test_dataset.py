from dataclasses import replace

import numpy as np
import pytest
from tests.clips.conftest import Memory

from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.cache import build_cache
from videopolicy.clips.dataset import Clips, Episodes
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.windows import Window
from videopolicy.errors import UserError
from videopolicy.types import Episode

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
            clip = clips.batch(np.array([index]), None)
            now, *later = WINDOW.frame_indices(start, len(episode))
            np.testing.assert_array_equal(clip.current[0], codes[:, now])
            np.testing.assert_array_equal(clip.future[0], codes[:, later])
            assert clip.instructions == [episode.instruction]
            assert clip.has_actions.tolist() == [episode.actions is not None]
            if episode.actions is not None:
                executed = episode.actions[WINDOW.action_indices(start, len(episode))]
                np.testing.assert_allclose(clips.normalizer.invert(clip.actions[0]), executed, atol=1e-5)
            index += 1


def test_a_batch_holds_the_clips_that_were_asked_for(cache, clips):
    indices = np.array([89, 0, 15, 0])
    batch = clips.batch(indices, np.random.default_rng(0))
    assert batch.current.shape == (4, 2, 3, 2, 2)
    assert batch.future.shape == (4, 2, 3, 3, 2, 2)
    assert batch.actions.shape == (4, 5, 3)
    assert batch.current.dtype == batch.future.dtype == batch.actions.dtype == np.float32
    assert batch.has_actions.tolist() == [True, True, False, True]
    assert not batch.actions[2].any()
    recorded = clips.batch(indices, None)
    assert batch.instructions == recorded.instructions
    np.testing.assert_array_equal(batch.actions, recorded.actions)
    episodes, starts = np.array([2, 0, 1, 0]), np.array([69, 0, 4, 0])
    copies = [cache.read_windows(WINDOW, np.full(4, copy), episodes, starts) for copy in (0, 1)]
    for row in range(len(indices)):
        assert any(np.array_equal(batch.current[row], codes[row, :, 0]) for codes in copies)
        assert any(np.array_equal(batch.future[row], codes[row, :, 1:]) for codes in copies)


def test_a_batch_draws_every_copy_and_only_the_generator_decides_which(clips):
    indices = np.zeros(32, int)
    first, again = (clips.batch(indices, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.current, again.current)
    assert len(np.unique(first.current.reshape(32, -1), axis=0)) == 2


def test_the_current_and_the_future_frames_are_of_one_copy(cache, clips):
    batch = clips.batch(np.full(32, 30), np.random.default_rng(3))
    copies = cache.read_windows(WINDOW, np.array([0, 1]), np.array([2, 2]), np.array([10, 10]))
    for current, future in zip(batch.current, batch.future, strict=True):
        copy = int(np.array_equal(current, copies[1, :, 0]))
        np.testing.assert_array_equal(future, copies[copy, :, 1:])


def test_normalised_actions_fill_the_range_of_the_known_ones(clips):
    batch = clips.batch(np.arange(len(clips)), np.random.default_rng(0))
    assert batch.actions.min() == -1
    assert batch.actions.max() == 1


def test_quantiles_are_of_all_known_actions_of_all_caches(cache, second):
    known = np.concatenate([actions for one in (cache, second) for actions in one.known_actions()])
    clips = Clips([cache, second], WINDOW, normalize="quantile")
    assert clips.normalizer == Normalizer.fit_quantiles([known])
    learnt = clips.batch(np.arange(len(clips)), None).actions
    assert (learnt.min(), learnt.max()) == (-1, 1)
    assert Clips([cache], WINDOW).normalizer.method == "minmax"


def test_a_given_normaliser_is_used(cache):
    clips = Clips([cache], WINDOW, Normalizer((-10.0,) * 3, (10.0,) * 3))
    np.testing.assert_allclose(clips.batch(np.array([0]), None).actions[0] * 10, cache.actions[:5], atol=1e-5)
    with pytest.raises(UserError, match="3 wide, but the normaliser was fitted to 2"):
        Clips([cache], WINDOW, Normalizer((0.0,) * 2, (1.0,) * 2))


def test_video_without_actions_has_batches_too(dataset, encode, tmp_path):
    silent = dataset.changed(0, actions=None).changed(2, actions=None)
    cache = build_cache(silent, tmp_path / "cache", encode, VIEWS, key="encoder")
    clips = Clips([cache], WINDOW)
    assert clips.normalizer is None
    assert clips.batch(np.array([0, 1]), np.random.default_rng(0)).actions.shape == (2, 5, 0)
    known = Clips([cache], WINDOW, Normalizer((0.0,) * 4, (1.0,) * 4))
    batch = known.batch(np.array([0, 1]), np.random.default_rng(0))
    assert batch.actions.shape == (2, 5, 4)
    assert not batch.has_actions.any()


def test_the_instructions_are_listed_once(clips):
    assert clips.instructions == ("move 11 steps", "move 70 steps", "move 9 steps")


def test_an_episode_shorter_than_a_window_is_refused(cache):
    with pytest.raises(UserError, match="episode 1 has 9 control steps, but a window spans 10"):
        Clips([cache], Window(frames=1, stride=1, actions=10))


@pytest.mark.parametrize("index", [90, -1])
def test_a_clip_that_is_not_there_is_refused(clips, index):
    with pytest.raises(IndexError):
        clips.batch(np.array([index]), None)


@pytest.fixture
def second(dataset, record, encode, tmp_path):
    """A cache of two episodes of the same views, the first of a task that the other data set has, too."""
    other = replace(dataset, episodes=(record(11), record(12)), fingerprint="other")
    return build_cache(other, tmp_path / "second", encode, VIEWS, copies=2, jitter=ColorJitter(), key="encoder")


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Ten episodes and four, every other one of each task."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("caches")

    def episode(task):
        frames = {view: rng.integers(0, 256, (8, 8, 8, 3), np.uint8) for view in VIEWS}
        return Episode(frames, task, 20.0, rng.normal(size=(8, 3)).astype(np.float32), task=task)

    def means(frames):
        return frames.mean((1, 2))[:, :, None, None] / 255

    sets = [Memory(tuple(episode(("push", "pull")[number % 2]) for number in range(count))) for count in (10, 4)]
    return [build_cache(data, folder / str(place), means, VIEWS, key="means") for place, data in enumerate(sets)]


def test_the_clips_of_several_caches_follow_each_other(cache, second):
    both, one, other = Clips([cache, second], WINDOW), Clips([cache], WINDOW), Clips([second], WINDOW)
    assert len(both) == len(one) + len(other) == 90 + 23
    batch = both.batch(np.array([0, 95, 15]), None)
    for row, (source, index) in enumerate(((one, 0), (other, 5), (one, 15))):
        clip = source.batch(np.array([index]), None)
        np.testing.assert_array_equal(batch.current[row], clip.current[0])
        np.testing.assert_array_equal(batch.future[row], clip.future[0])
        assert batch.instructions[row] == clip.instructions[0]
    assert batch.has_actions.tolist() == [True, True, False]
    env = both.normalizer.invert(batch.actions[:2])
    np.testing.assert_allclose(env[0], cache.actions[:5], atol=1e-5)
    np.testing.assert_allclose(env[1], second.actions[5:10], atol=1e-5)
    assert both.normalizer == one.normalizer.union(other.normalizer)
    assert both.instructions == ("move 11 steps", "move 12 steps", "move 70 steps", "move 9 steps")
    assert both.tasks == ("task-11", "task-12", "task-70", "task-9")


def test_weights_decide_how_much_of_each_cache_is_seen_and_how_much_with_actions(cache, second):
    clips = Clips([cache, second], WINDOW, weights=[1, 3])
    seen = clips.at(np.arange(4000), 0)
    assert np.mean(seen >= 90) == pytest.approx(0.75, abs=0.001)
    assert clips.share_with_actions == pytest.approx(0.25 * 81 / 90 + 0.75)
    assert clips.batch(seen, None).has_actions.mean() == pytest.approx(clips.share_with_actions, abs=0.01)


@pytest.mark.parametrize("episodes", range(6))
def test_what_is_held_out_are_whole_episodes_and_never_trained_on(episodes, caches):
    every = Clips(caches, WINDOW)
    training, held = every.split(episodes)
    assert len(held.episodes) == episodes and len(training.episodes) == 14 - episodes
    assert len(training) + len(held) == len(every)
    places = [set(zip(part.episodes.source, part.episodes.first, strict=True)) for part in (training, held)]
    assert not places[0] & places[1] and len(places[0] | places[1]) == 14
    assert training.normalizer == held.normalizer == every.normalizer
    shown = [part.batch(np.arange(len(part)), None).current.tobytes() for part in (training, held) if len(part)]
    assert sum(map(len, shown)) == every.batch(np.arange(len(every)), None).current.nbytes


def test_what_is_held_out_is_spread_over_sources_and_tasks(caches):
    _, held = Clips(caches, WINDOW).split(7)
    assert sorted(zip(held.episodes.source.tolist(), held.episodes.tasks, strict=True)) == [
        (0, "pull"), (0, "pull"), (0, "push"), (0, "push"), (0, "push"), (1, "pull"), (1, "push")
    ]  # fmt: skip


def test_a_source_is_never_held_out_wholly(cache, second):
    clips = Clips([cache, second], WINDOW, weights=[1, 1])
    with pytest.raises(UserError, match="5 of 5 episodes held out leave a data set with none"):
        clips.split(5)
    training, held = clips.split(2)
    assert len(training) and len(held) == len(clips) - len(training)
    training.at(np.arange(500), 0)


def chosen(clips):
    return list(zip(clips.episodes.source.tolist(), clips.episodes.number.tolist(), strict=True))


def of(caches, *numbers):
    """Clips of these episodes, counted over all caches."""
    return Clips(caches, WINDOW, episodes=Episodes.of(caches).take(np.array(numbers)))


def test_only_the_chosen_episodes_have_clips(caches):
    some, every = of(caches, 1, 4, 11), Clips(caches, WINDOW)
    assert chosen(some) == [(0, 1), (0, 4), (1, 1)] and len(some) == 24
    np.testing.assert_array_equal(some.batch(np.array([9]), None).current, every.batch(np.array([33]), None).current)
    assert set(some.at(np.arange(24), 0)) == set(range(24))


@pytest.mark.parametrize("episodes", [1, 2, 3])
def test_the_only_episode_of_a_task_is_trained_on(caches, episodes):
    # Four that push, and between them in the order of the tasks the only one that pulls.
    clips = of(caches, 0, 1, 2, 4, 6)
    training, held = clips.split(episodes)
    assert len(held.episodes) == episodes and "pull" in training.tasks and "push" in training.tasks
    assert sorted(chosen(training) + chosen(held)) == chosen(clips)


def test_the_only_episode_of_a_task_with_actions_is_trained_on(caches):
    clips = of(caches, 0, 2, 4)
    one = replace(clips.episodes, has_actions=np.array([False, True, False]))
    training, held = Clips(caches, WINDOW, episodes=one).split(1)
    assert training.with_actions == ("push",) and held.with_actions == ()


def test_where_every_episode_is_the_only_one_of_its_task_some_are_held_out_all_the_same(caches):
    training, held = of(caches, 0, 1).split(1)
    assert len(training.episodes) == len(held.episodes) == 1
