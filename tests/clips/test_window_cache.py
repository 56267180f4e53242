"""A cache of windows gives the clips that encoding each clip's frames together gives."""

from dataclasses import replace

import numpy as np
import pytest
from tests.clips.conftest import VIEWS, Memory, Watched

from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.cache import build_cache
from videopolicy.clips.dataset import Clips, Episodes
from videopolicy.clips.windows import Window
from videopolicy.errors import UserError

WINDOW = Window(frames=4, stride=2, actions=5)


@pytest.fixture
def encode_windows(encode):
    """Codes of the first frame, then of each two after it, the later of which weighs more."""

    def pairs(windows):
        codes = encode(windows.reshape(-1, *windows.shape[2:]))
        codes = codes.reshape(*windows.shape[:2], *codes.shape[1:])
        return np.concatenate((codes[:, :1], codes[:, 1::2] / 4 + codes[:, 2::2] * 3 / 4), 1)

    return pairs


@pytest.fixture
def build(dataset, encode_windows, tmp_path):
    """Builds a cache of the data set, or of another; counts the windows, and the most frames given at once."""

    def builder(data=dataset, window=WINDOW, *, name="cache", key="pairs", **settings):
        def counting(windows):
            builder.encoded += len(windows)
            builder.most = max(builder.most, windows.shape[0] * windows.shape[1])
            return encode_windows(windows)

        builder.encoded = builder.most = 0
        return build_cache(data, tmp_path / name, counting, VIEWS, window=window, key=key, **settings)

    return builder


def direct(encode_windows, frames, window=WINDOW):
    """Half-precision codes of the windows that begin with every frame."""
    places = window.frame_indices(np.arange(len(frames)), len(frames))
    return encode_windows(frames[places]).astype(np.float16)


def test_a_window_is_where_its_first_step_is(build, dataset, encode_windows):
    cache = build()
    assert cache.codes.shape == (1, 90, 2, 3, 3, 2, 2) and cache.offsets == (2, 4, 6, 8)
    for number, episode in enumerate(dataset.episodes):
        steps = slice(cache.starts[number], cache.starts[number] + cache.lengths[number])
        for v, view in enumerate(VIEWS):
            np.testing.assert_array_equal(cache.codes[0, steps, v], direct(encode_windows, episode.views[view]))


def test_clips_are_what_encoding_their_frames_together_gives(build, dataset, encode_windows):
    clips = Clips([build()], WINDOW)
    assert len(clips) == 11 + 9 + 70
    batch, index = clips.batch(np.arange(len(clips)), None), 0
    assert batch.current.shape == (90, 2, 3, 2, 2) and batch.future.shape == (90, 2, 2, 3, 2, 2)
    for episode in dataset.episodes:
        codes = np.stack([direct(encode_windows, episode.views[view]) for view in VIEWS], 1)
        part = slice(index, index + len(episode))
        np.testing.assert_array_equal(batch.current[part], codes[:, :, 0])
        np.testing.assert_array_equal(batch.future[part], codes[:, :, 1:])
        index += len(episode)


def test_of_an_encoder_of_single_frames_both_kinds_of_cache_give_the_same_clips(dataset, encode, tmp_path):
    def singly(windows):
        codes = encode(windows.reshape(-1, *windows.shape[2:]))
        return codes.reshape(*windows.shape[:2], *codes.shape[1:])

    settings = {"copies": 2, "jitter": ColorJitter(), "key": "means"}
    frames = build_cache(dataset, tmp_path / "frames", encode, VIEWS, **settings)
    windows = build_cache(dataset, tmp_path / "windows", singly, VIEWS, window=WINDOW, **settings)
    first, second = (
        Clips([cache], WINDOW).batch(np.arange(90), np.random.default_rng(3)) for cache in (frames, windows)
    )
    for name in ("current", "future", "actions", "has_actions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_copy_is_jittered_once_an_episode_and_view_and_a_window_is_of_one_copy(build, dataset, encode_windows):
    jitter = ColorJitter()
    cache = build(copies=3, jitter=jitter, seed=5)
    frames = dataset.episodes[2].views["wrist"]
    for copy in (1, 2):
        drawn = jitter.draw(np.random.default_rng([5, copy, 2, 1])).apply(frames)
        np.testing.assert_array_equal(cache.codes[copy, 20:90, 1], direct(encode_windows, drawn))
    batch = Clips([cache], WINDOW).batch(np.full(32, 30), np.random.default_rng(3))
    shown = np.concatenate((batch.current[:, :, None], batch.future), 2)
    for copy in range(3):
        assert any(np.array_equal(codes, cache.codes[copy, 30]) for codes in shown)
    assert all(any(np.array_equal(codes, cache.codes[copy, 30]) for copy in range(3)) for codes in shown)


@pytest.mark.parametrize(
    "change",
    [
        {"window": Window(frames=2, stride=2, actions=5)},
        {"window": Window(frames=4, stride=1, actions=5)},
        {"window": replace(WINDOW, first=0)},
        {"key": "another encoder"},
    ],
    ids=["frames", "stride", "first", "key"],
)
def test_windows_of_another_shape_or_encoder_make_another_cache(build, change):
    build()
    build(**change)
    assert build.encoded
    build(**change)
    assert build.encoded == 0


def test_the_length_of_a_chunk_of_actions_changes_nothing(build):
    build()
    build(window=replace(WINDOW, actions=9))
    assert build.encoded == 0


def test_windows_are_no_frames(build, dataset, encode, tmp_path):
    build()
    cache = build_cache(dataset, tmp_path / "cache", encode, VIEWS, key="pairs")
    assert cache.offsets is None and cache.codes.shape == (1, 90, 2, 3, 2, 2)


def test_clips_of_other_windows_than_the_caches_are_refused(build):
    with pytest.raises(UserError, match="cache holds windows of frames 2, 4, 6, 8 control steps ahead, not 1, 2, 3, 4"):
        Clips([build()], Window(frames=4, stride=1, actions=5))


def test_memory_does_not_depend_on_the_length_of_an_episode(build, record):
    data = Watched((record(300),))
    build(data)
    assert max(data.asked) == 64 + 8
    assert build.most <= 64


def test_a_window_of_more_frames_than_the_encoder_is_given_at_once_is_encoded_alone(build, record):
    build(Memory((record(90),)), Window(frames=80, stride=1, actions=5))
    assert build.most == 81


def test_each_window_is_encoded_once(build):
    build()
    # And one window of either view, to know how much room they will take.
    assert build.encoded == 90 * 2 + 2


def test_the_room_that_the_windows_will_take_is_told_before_they_are_encoded(dataset, tmp_path, capsys):
    told = []

    def large(windows):
        told.append(capsys.readouterr().err)
        return np.zeros((len(windows), 3, 16, 64, 64), np.float32)

    cache = build_cache(dataset, tmp_path / "cache", large, VIEWS, window=WINDOW, key="large")
    line = f"{tmp_path}: the latent cache will hold 90 windows of each view, {cache.codes.nbytes / 1e9:.2f} GB\n"
    assert cache.codes.nbytes > 5e6 and told[:2] == ["", ""] and told[2].startswith(line)


def test_windows_that_no_disk_holds_are_refused(build, tmp_path):
    with pytest.raises(UserError, match=r"needs 12,960,000.0 GB, but .* GB are free"):
        build(copies=10**12, jitter=ColorJitter())
    assert not list(tmp_path.iterdir())


def test_windows_of_several_data_sets_are_mixed(build, dataset, record, encode_windows):
    other = replace(dataset, episodes=(record(14), record(12)), fingerprint="other")
    caches = [build(), build(other, name="second")]
    clips = Clips(caches, WINDOW, weights=[1, 3])
    assert len(clips) == 90 + 26
    batch = clips.batch(np.array([95, 0, 104 + 11, 50]), None)
    for row, (data, number, start) in enumerate([(other, 0, 5), (dataset, 0, 0), (other, 1, 11), (dataset, 2, 30)]):
        codes = direct(encode_windows, data.episodes[number].views["wrist"])[start]
        np.testing.assert_array_equal(batch.current[row, 1], codes[0])
        np.testing.assert_array_equal(batch.future[row, 1], codes[1:])
        assert batch.instructions[row] == data.episodes[number].instruction


def test_an_episode_shorter_than_a_window_has_no_clips_and_disturbs_no_others(build, dataset, record, encode_windows):
    data = replace(dataset, episodes=(record(12), record(6), record(1), record(20)), fingerprint="uneven")
    cache = build(data)
    with pytest.raises(UserError, match="episode 1 has 6 control steps, but a window spans 9"):
        Clips([cache], WINDOW)
    clips = Clips([cache], WINDOW, episodes=Episodes.of([cache]).take(np.array([0, 3])))
    batch = clips.batch(np.arange(len(clips)), None)
    codes = [direct(encode_windows, data.episodes[number].views["front"]) for number in (0, 3)]
    np.testing.assert_array_equal(batch.future[:, 0], np.concatenate(codes)[:, 1:])


def test_windows_whose_codes_are_no_numbers_are_refused(dataset, tmp_path):
    def unsound(windows):
        return np.full((len(windows), 3, 1, 1, 1), np.nan)

    with pytest.raises(UserError, match="episode 0, view 'front': codes that are no finite"):
        build_cache(dataset, tmp_path / "cache", unsound, VIEWS, window=WINDOW, key="nan")
