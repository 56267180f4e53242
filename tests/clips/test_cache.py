import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from tests.clips.conftest import Memory, Watched

from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.cache import build_cache, open_cache
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.errors import UserError
from videopolicy.types import Episode

VIEWS = ["wrist", "front"]


@pytest.fixture
def build(dataset, encode, tmp_path):
    """Builds a cache of the data set, or of another, in one folder; counts the frames that were encoded."""

    def builder(data=dataset, views=VIEWS, *, key="encoder", **settings):
        def counting(frames):
            builder.encoded += len(frames)
            builder.most = max(builder.most, len(frames))
            return encode(frames)

        builder.encoded = builder.most = 0
        return build_cache(data, tmp_path / "cache", counting, views, key=key, **settings)

    return builder


def test_every_frame_of_every_view_is_where_the_index_says(build, dataset, encode):
    cache = build()
    assert cache.codes.shape == (1, 90, 2, 3, 2, 2)
    assert cache.views == ("wrist", "front")
    for number, episode in enumerate(dataset.episodes):
        steps = slice(cache.starts[number], cache.starts[number] + cache.lengths[number])
        for v, view in enumerate(cache.views):
            np.testing.assert_array_equal(cache.codes[0, steps, v], encode(episode.views[view]).astype(np.float16))


def test_what_else_is_known_of_the_episodes_is_kept(build, dataset):
    cache = build()
    assert cache.lengths.tolist() == [11, 9, 70]
    assert cache.instructions == tuple(episode.instruction for episode in dataset.episodes)
    assert cache.tasks == tuple(episode.task for episode in dataset.episodes)
    assert cache.fps == dataset.fps
    assert cache.has_actions.tolist() == [True, False, True]
    known = np.concatenate([dataset.episodes[0].actions, dataset.episodes[2].actions])
    np.testing.assert_array_equal(np.concatenate(list(cache.known_actions())), known)
    assert not cache.actions[11:20].any()


def test_an_episode_of_another_rate_is_refused_with_the_command_that_mends_it(build, dataset):
    first, *others = dataset.episodes
    with pytest.raises(UserError, match=r"episode 0 has 30 frames a second, most have 20; .*convert --fps 20"):
        build(replace(dataset, episodes=(replace(first, fps=30.0), *others)))


def test_video_without_actions_has_none(build, dataset):
    cache = build(replace(dataset, episodes=dataset.episodes[1:2]))
    assert cache.actions is None
    assert not list(cache.known_actions())


def test_the_encoder_is_given_few_frames_at_once(build):
    build()
    # And one frame of either view, to know how much room they will take.
    assert build.encoded == 90 * 2 + 2
    assert build.most <= 64


def test_a_long_episode_is_never_read_as_a_whole(build, dataset, record):
    data = Watched((record(300),))
    build(data)
    assert sum(data.asked) == 300 + 1 and max(data.asked) <= 64


def test_the_same_cache_is_opened_and_not_built_again(build):
    first = build()
    second = build()
    assert build.encoded == 0
    np.testing.assert_array_equal(first.codes, second.codes)


@pytest.mark.parametrize(
    "change",
    [
        {"key": "another encoder"},
        {"views": ["front"]},
        {"copies": 2, "jitter": ColorJitter()},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_stale_cache_is_built_again(build, change):
    build()
    build(**change)
    assert build.encoded
    build(**change)
    assert build.encoded == 0


def test_a_cache_of_other_demonstrations_is_built_again(build, dataset, record):
    build()
    other = replace(dataset, episodes=(record(12),), fingerprint="other")
    assert build(other).lengths.tolist() == [12]


def test_copies_after_the_first_are_jittered_once_an_episode_and_view(build, dataset, encode):
    jitter = ColorJitter()
    cache = build(copies=3, jitter=jitter, seed=5)
    plain, second, third = cache.codes
    frames = dataset.episodes[2].views["front"]
    np.testing.assert_array_equal(plain[20:90, 1], encode(frames).astype(np.float16))
    assert (plain != second).any()
    assert (second != third).any()
    drawn = jitter.draw(np.random.default_rng([5, 1, 2, 1]))
    np.testing.assert_array_equal(second[20:90, 1], encode(drawn.apply(frames)).astype(np.float16))


def test_jitter_follows_the_seed(build):
    settings = {"copies": 2, "jitter": ColorJitter()}
    first = np.array(build(seed=1, **settings).codes)
    other = np.array(build(seed=2, **settings).codes)
    again = build(seed=1, **settings).codes
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[0], other[0])
    assert (first[1] != other[1]).any()


def test_an_encoder_that_fails_leaves_nothing_behind_and_the_old_cache_whole(build, dataset, tmp_path):
    old = np.array(build().codes)

    def failing(frames):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        build_cache(dataset, tmp_path / "cache", failing, VIEWS, key="another encoder")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    np.testing.assert_array_equal(open_cache(tmp_path / "cache").codes, old)


@pytest.mark.parametrize("index", [None, "{", "[]", json.dumps({"recipe": {"format": "something else"}})])
def test_somebody_elses_folder_is_never_removed(build, tmp_path, index):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work", encoding="utf-8")
    if index is not None:
        (folder / "index.json").write_text(index, encoding="utf-8")
    with pytest.raises(UserError, match="no latent cache; choose a new or empty folder"):
        build()
    assert (folder / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def test_a_cache_that_is_not_there_is_not_opened(tmp_path):
    with pytest.raises(UserError, match="no latent cache"):
        open_cache(tmp_path / "cache")


def test_an_unknown_view_is_refused_with_the_known_ones(build):
    with pytest.raises(UserError, match=r"no view 'rist'; did you mean 'wrist'\? known: front, wrist"):
        build(views=["rist"])


def test_nothing_to_cache_is_refused(build, dataset):
    with pytest.raises(UserError, match="at least one view and one episode"):
        build(replace(dataset, episodes=()))
    with pytest.raises(UserError, match="at least one view and one episode"):
        build(views=[])


@pytest.mark.parametrize("copies", [0, 2])
def test_copies_that_cannot_be_are_refused(build, copies):
    with pytest.raises(UserError, match=f"{copies} copies"):
        build(copies=copies)


def test_episodes_that_disagree_are_refused_by_name(build, dataset, record):
    with pytest.raises(UserError, match="episode 2: actions are 4 wide, but the data set says 3"):
        build(dataset.changed(2, actions=np.zeros((70, 4), np.float32)))
    with pytest.raises(UserError, match=r"episode 1, view 'wrist': .*all frames must have one size"):
        build(replace(dataset, episodes=(dataset.episodes[0], record(9, size=16)), fingerprint="two sizes"))
    with pytest.raises(UserError, match="episode 0: 5 actions for 11 frames"):
        build(dataset.changed(0, actions=np.zeros((5, 3), np.float32)))
    with pytest.raises(UserError, match="episode 0: actions that are not finite"):
        build(dataset.changed(0, actions=np.full((11, 3), np.nan, np.float32)))


def test_a_cache_that_no_disk_holds_is_refused(build, tmp_path):
    with pytest.raises(UserError, match=r"needs 4,320,000.0 GB, but .* GB are free"):
        build(copies=10**12, jitter=ColorJitter())
    assert not list(tmp_path.iterdir())


def test_its_room_on_the_disk_is_taken_before_it_is_filled(dataset, record, encode, tmp_path):
    """A memory map that finds the disk full kills the process without a word."""
    seen = []

    def measuring(frames):
        seen.extend(file.stat() for file in tmp_path.rglob("codes.npy"))
        return encode(frames)

    long = replace(dataset, episodes=(record(2000),))
    build_cache(long, tmp_path / "cache", measuring, VIEWS, key="encoder")
    first = seen[0]
    assert first.st_blocks * 512 >= first.st_size > 2000 * 2 * 12 * 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "codes.npy").unlink(),
        lambda folder: os.truncate(folder / "codes.npy", 1000),
        lambda folder: os.truncate(folder / "actions.npy", 10),
        lambda folder: edit_index(folder, lambda index: index.pop("episodes")),
    ],
)
def test_a_damaged_cache_is_refused_by_its_name(build, tmp_path, damage):
    build()
    damage(tmp_path / "cache")
    with pytest.raises(UserError, match=r"cache: damaged .* remove this folder, and it is built again"):
        build()


def edit_index(folder, change):
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    change(index)
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def test_recorded_demonstrations_are_cached_as_they_were_decoded(dataset, encode, tmp_path):
    path = tmp_path / "demonstrations"
    with Writer(path, dataset.fps, dataset.views) as writer:
        for episode in (dataset.episodes[0], dataset.episodes[2]):
            writer.add(episode)
    recorded = open_dataset(path)
    cache = build_cache(recorded, tmp_path / "cache", encode, VIEWS, key="encoder")
    decoded = [encode(recorded.episode(i).views["wrist"]) for i in range(2)]
    np.testing.assert_array_equal(cache.codes[0, :, 0], np.concatenate(decoded).astype(np.float16))
    actions = [dataset.episodes[0].actions, dataset.episodes[2].actions]
    np.testing.assert_array_equal(np.concatenate(list(cache.known_actions())), np.concatenate(actions))
    assert cache.instructions == ("move 11 steps", "move 70 steps")


def test_codes_that_are_no_numbers_are_refused(dataset, tmp_path):
    with pytest.raises(UserError, match="episode 0, view 'wrist': codes that are no finite"):
        build_cache(dataset, tmp_path / "cache", lambda f: np.full((len(f), 1, 1, 1), np.nan), VIEWS, key="nan")


def test_what_goes_on_is_held_to_the_frames_of_what_was_begun(dataset, record, tmp_path, encode):
    """Codes of another size would be written over those of other steps."""
    first, second = record(9), record(11, size=16)
    dataset = replace(dataset, episodes=(first, second), fingerprint="two sizes")
    for _ in range(2):
        with pytest.raises(UserError, match=r"episode 1, view .*all frames must have one size"):
            build_cache(dataset, tmp_path / "cache", encode, VIEWS, key="encoder")


# Hashes of what the first edition wrote.
FIRST_EDITION = {
    "actions.npy": "850fedc1173a2087f29621c5dd8acc378858f26cb64fb6756486a9b30213341d",
    "codes.npy": "5d19070e785b5c426d72c77d197e4ceade8cd39a2375e37c5dd2f9ce5e9eae29",
    "index.json": "5b6d14146721e9ea764ce61f6ae48b515c5ea253a5507b67c58061c8a7edf984",
    "states.npy": "5fd5c384964061306cd067c1e6db1d860bf1dd95ce15fa16cb77872d04ebba09",
}


def plain(length, step):
    """An episode whose every number is said here, whatever a random generator would give."""
    pixels = np.arange(length * 2 * 8 * 8 * 3).reshape(2, length, 8, 8, 3) * step % 251
    actions, states = (np.arange(length * width).reshape(length, width) / 8 for width in (3, 2))
    frames = dict(zip(("front", "wrist"), pixels.astype(np.uint8), strict=True))
    return Episode(frames, "push", 20.0, actions.astype(np.float32), states.astype(np.float32), task="push-v1")


def test_a_cache_of_frames_is_to_the_byte_what_the_first_edition_wrote(encode, tmp_path):
    data = Memory((plain(11, 7), plain(70, 13)), state_width=2)
    build_cache(data, tmp_path / "cache", encode, VIEWS, key="encoder")
    written = {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in written.items()} == FIRST_EDITION
