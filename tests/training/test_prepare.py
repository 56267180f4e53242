import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tests.small import MODEL, NORMALIZER, TRAINING, Partly, same, small_model, write_data

from videopolicy import registry
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.statistics import FrameStatistics
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.mixture import open_sources
from videopolicy.datasets.transforms.select import Selection
from videopolicy.errors import UserError
from videopolicy.latents import svd
from videopolicy.text import clip
from videopolicy.training import prepare as module
from videopolicy.training.prepare import _frames_to_fit, build, prepare, suited
from videopolicy.training.stages import STAGES
from videopolicy.types import Episode


@pytest.fixture(scope="module")
def prepared(dataset, tmp_path_factory):
    return prepare(dataset, MODEL, TRAINING, tmp_path_factory.mktemp("run"))


def test_clips_hold_what_the_data_shows_in_the_models_latents(prepared, dataset):
    model, clips = prepared
    assert len(clips) == sum(dataset.length(index) for index in range(len(dataset)))
    first = torch.from_numpy(clips.batch(np.array([0]), None).current[0])
    decoded = model.latents.decode(model.latents.sample(first, None))[0].numpy().astype(float)
    shown = dataset.episode(0, ["top"]).views["top"][0]
    assert np.corrcoef(decoded.ravel(), shown.ravel())[0, 1] > 0.8


def test_actions_are_normalised_to_the_range_of_the_data(prepared, dataset):
    model, clips = prepared
    actions = np.concatenate([dataset.episode(index).actions for index in range(len(dataset))])
    assert model.normalizer == clips.normalizer == Normalizer.fit(actions)
    first = clips.batch(np.array([0]), None).actions[0]
    np.testing.assert_allclose(model.normalizer.invert(first), actions[:8], atol=1e-5)


def test_the_model_knows_what_episodes_look_like_when_they_begin(prepared, dataset):
    first = np.concatenate([dataset.episode(index, ["top"], 0, 1).views["top"] for index in range(len(dataset))])
    assert prepared[0].frame_statistics == {"top": FrameStatistics.of(first)}
    assert prepared[0].frame_statistics["top"].count == 4


def test_of_episodes_with_and_without_actions_it_knows_those_with(dataset, tmp_path):
    model, _ = prepare(Selection(dataset, actions_of=[1]), MODEL, TRAINING, tmp_path)
    assert model.frame_statistics["top"] == FrameStatistics.of(dataset.episode(1, ["top"], 0, 1).views["top"])


def test_the_seed_alone_decides_fresh_weights_and_nothing_outside_is_seeded():
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    first, again, other = (build(MODEL, NORMALIZER, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert same(first, again) and not same(first, other)


def test_a_second_run_opens_the_cache_of_the_first(dataset, tmp_path):
    prepare(dataset, MODEL, TRAINING, tmp_path)
    built = (tmp_path / "cache" / "codes.npy").stat().st_mtime_ns
    prepare(dataset, MODEL, replace(TRAINING, steps=9), tmp_path)
    assert (tmp_path / "cache" / "codes.npy").stat().st_mtime_ns == built
    prepare(dataset, replace(MODEL, views=("close",)), TRAINING, tmp_path)
    assert (tmp_path / "cache" / "codes.npy").stat().st_mtime_ns != built


def test_weights_to_start_from_are_taken_over_with_their_latents_and_statistics(dataset, tmp_path):
    init = small_model(seed=5)
    model, clips = prepare(dataset, init.config, TRAINING, tmp_path, init)
    assert same(model, init) and model is not init
    assert model.normalizer == clips.normalizer == NORMALIZER


def test_a_model_of_video_alone_is_given_a_head(dataset, tmp_path):
    init = small_model(None, seed=5)
    model, _ = prepare(dataset, init.config, TRAINING, tmp_path, init)
    assert model.head is not None and model.action_width == 2
    assert same(model.backbone, init.backbone) and same(model.text, init.text) and same(model.latents, init.latents)


def refused(message, dataset, tmp_path, config=MODEL, training=TRAINING, init=None):
    with pytest.raises(UserError, match=message):
        prepare(dataset, config, training, tmp_path / "run", init)
    assert not (tmp_path / "run" / "cache").exists()


def test_a_view_that_the_data_lacks_is_refused(dataset, tmp_path):
    refused("'topp'", dataset, tmp_path, replace(MODEL, views=("top", "topp")))


@pytest.mark.parametrize("fresh", [True, False])
def test_pictures_of_another_size_are_refused(tmp_path, fresh):
    write_data(tmp_path / "large", episodes=1, size=48)
    large = registry.build("datasets", "lerobot", tmp_path / "large")
    init = None if fresh else small_model()
    refused("large: view 'top' is 48x48 pixels, but the policy sees 32x32", large, tmp_path, init=init)


def test_actions_of_another_width_than_the_checkpoints_are_refused(dataset, tmp_path):
    init = small_model(Normalizer((-1.0,) * 4, (1.0,) * 4))
    refused("actions are 2 wide, the checkpoint's 4", dataset, tmp_path, init=init)


def test_a_view_that_the_checkpoint_wants_is_refused_if_lacking(dataset, tmp_path):
    init = small_model(views=("front",))
    refused("'front'", dataset, tmp_path, init.config, init=init)


def uneven(path, lengths):
    """Episodes of these lengths, in a data set that names no layouts and has no states."""
    rng = np.random.default_rng(0)
    with Writer(path, 20, ("top",)) as writer:
        for steps in lengths:
            frames = rng.integers(0, 256, (steps, 32, 32, 3), np.uint8)
            actions = rng.normal(size=(steps, 2)).astype(np.float32)
            writer.add(Episode({"top": frames}, "reach the red disc", 20, actions))
    return registry.build("datasets", "lerobot", path)


def test_episodes_shorter_than_a_clip_are_left_out_and_encoded_all_the_same(tmp_path):
    data = uneven(tmp_path / "uneven", (12, 7, 8))
    _, clips = prepare(data, MODEL, TRAINING, tmp_path / "run")
    assert MODEL.window.span == 8 and clips.episodes.number.tolist() == [0, 2] and len(clips) == 20
    chunk = clips.batch(np.array([12]), None).actions[0]
    np.testing.assert_allclose(clips.normalizer.invert(chunk), data.episode(2, ()).actions[:8], atol=1e-5)
    assert (
        json.loads((tmp_path / "run" / "cache" / "index.json").read_text(encoding="utf-8"))["episodes"][1]["length"]
        == 7
    )


def test_episodes_that_are_all_shorter_than_a_clip_are_refused(dataset, tmp_path):
    long = replace(MODEL, window=replace(MODEL.window, actions=64))
    refused(r"its longest episode has 22 control steps, but a clip spans 64", dataset, tmp_path, long)


def test_actions_of_episodes_that_are_too_short_are_none(tmp_path):
    refused("no episode has actions", Partly(uneven(tmp_path / "uneven", (12, 7, 8)), {0, 2}), tmp_path)


@pytest.mark.parametrize("stage", ["action", "joint"])
@pytest.mark.parametrize("start", [None, NORMALIZER])
def test_a_stage_that_needs_actions_is_refused_without_any(dataset, tmp_path, stage, start):
    without = Partly(dataset, {0, 1, 2, 3})
    init = start and small_model(start)
    refused(
        f"no episode has actions.*'{stage}'",
        without,
        tmp_path,
        training=replace(TRAINING, stage=STAGES[stage]),
        init=init,
    )


def test_no_episodes_are_refused(dataset, tmp_path):
    class Empty(Partly):
        def __len__(self):
            return 0

    refused("no episodes", Empty(dataset, set()), tmp_path)


@pytest.mark.parametrize(
    "part", [{"latents": svd.Config(channels=(32, 32))}, {"text": clip.Config(width=16, hidden=16, layers=1, heads=2)}]
)
def test_fresh_weights_of_a_pretrained_part_are_refused(dataset, tmp_path, part):
    refused(r"videopolicy import.*--init", dataset, tmp_path, replace(MODEL, **part))


def test_the_stage_video_leaves_the_head_and_its_normaliser_to_a_later_stage(dataset, tmp_path):
    acting, _ = prepare(dataset, MODEL, TRAINING, tmp_path / "joint")
    watching, clips = prepare(dataset, MODEL, replace(TRAINING, stage=STAGES["video"]), tmp_path / "video", acting)
    assert (
        watching.head is None
        and watching.normalizer is None
        and clips.batch(np.arange(2), np.random.default_rng(0)).has_actions.all()
    )
    again, _ = prepare(dataset, MODEL, replace(TRAINING, stage=STAGES["action"]), tmp_path / "action", watching)
    assert again.head is not None and same(again.backbone, acting.backbone)


def test_an_instruction_that_is_too_long_is_refused_before_training(dataset, tmp_path):
    refused("words", dataset, tmp_path, replace(MODEL, text=replace(MODEL.text, length=2)))


def stacked(frames):
    return np.concatenate(list(frames))


def test_short_episodes_are_fitted_to_as_a_whole(dataset):
    """What the published runs of 50 short demonstrations rest on."""
    sources, config = suited(dataset, MODEL, TRAINING)
    whole = [dataset.episode(index, ["top"]).views["top"] for index in range(len(dataset))]
    np.testing.assert_array_equal(stacked(_frames_to_fit(sources, config)), np.concatenate(whole))


def test_however_much_there_is_few_frames_are_fitted_to(dataset, monkeypatch):
    monkeypatch.setattr(module, "FITTED_PIXELS", 32 * 32 * 40)
    monkeypatch.setattr(module, "BLOCK", 3)
    sources, config = suited(dataset, MODEL, TRAINING)
    fitted = stacked(_frames_to_fit(sources, config))
    assert 30 < len(fitted) <= 40
    for index in range(len(dataset)):
        # Of every episode, its first and its last frame among them.
        frames = dataset.episode(index, ["top"]).views["top"]
        assert all((fitted == frame).all((1, 2, 3)).any() for frame in frames[[0, -1]])


@pytest.fixture(scope="module")
def mixed(data, tmp_path_factory):
    """The demonstrations, and video of theirs under other names of the views."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "mixture.toml").write_text(
        f"""
        [[data]]
        path = "{data}"
        weight = 1
        [[data]]
        path = "{data}"
        weight = 3
        views = {{top = "close"}}
        actions = false
        """,
        encoding="utf-8",
    )
    return open_sources([folder / "mixture.toml"])


def test_sources_are_mixed_by_weight_each_seen_through_its_own_map(mixed, dataset, tmp_path):
    model, clips = prepare(mixed, MODEL, TRAINING, tmp_path)
    half = len(clips) // 2
    batch = clips.batch(clips.at(np.arange(400), 0), np.random.default_rng(0))
    assert batch.has_actions.mean() == clips.share_with_actions == 0.25
    shown = model.latents.decode(torch.from_numpy(clips.batch(np.array([0, half]), None).current[:, 0])).numpy()
    for picture, view in zip(shown, ("top", "close"), strict=True):
        real = dataset.episode(0, [view]).views[view][0]
        assert np.corrcoef(picture.ravel(), real.ravel())[0, 1] > 0.7
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["dots", "dots-2"]


def test_a_policy_knows_the_rate_that_it_acts_at(dataset, tmp_path):
    model, _ = prepare(dataset, MODEL, TRAINING, tmp_path)
    assert model.config.fps == dataset.fps == 20
    # Another head may learn at another rate.
    assert prepare(dataset, replace(MODEL, fps=10.0), TRAINING, tmp_path / "fresh")[0].config.fps == 20
    init = small_model(fps=10.0)
    said = r"20 control steps a second, .* acts at 10; .*convert --fps 10`"
    refused(said, dataset, tmp_path, init.config, init=init)


def posed(path, episodes=3):
    """Poses that differ by where the base stands, in a data set that names its layouts."""
    rng = np.random.default_rng(0)
    with Writer(path, 20, ("top",), action_layout=POSE, state_layout=POSE) as writer:
        for number in range(episodes):
            turns = Rotation.from_rotvec(np.linspace(0, 0.5, 16)[:, None] * rng.normal(size=3))
            places = np.linspace(0, 0.1, 16)[:, None] * rng.normal(size=3)
            base = Rotation.random(random_state=number)
            poses = np.concatenate((base.apply(places) + number, (base * turns).as_quat()), 1).astype(np.float32)
            frames = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
            writer.add(Episode({"top": frames}, "reach the red disc", 20, poses, poses))
    return registry.build("datasets", "lerobot", path)


POSE = "position quaternion"


def test_relative_actions_are_seen_from_where_a_chunk_begins(tmp_path):
    data = posed(tmp_path / "poses")
    model, clips = prepare(data, replace(MODEL, relative=True), TRAINING, tmp_path / "run")
    assert (model.config.action_layout, model.config.state_layout) == (POSE, POSE)
    assert model.action_width == 9
    batch = clips.batch(np.arange(len(clips)), None)
    assert np.abs(batch.actions).max() == pytest.approx(1, abs=1e-5)
    # A chunk begins where the robot is: nowhere from there, and not turned.
    env = model.normalizer.invert(batch.actions)[:, 0]
    np.testing.assert_allclose(env, np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0], (len(clips), 1)), atol=1e-5)
    chunk = data.episode(1, (), 4, 12)
    back = model.config.relative_transform.invert(model.normalizer.invert(batch.actions[16 + 4]), chunk.states[0])
    np.testing.assert_allclose(back[:, :3], chunk.actions[:, :3], atol=1e-4)


def test_relative_actions_need_named_layouts(dataset, tmp_path):
    refused("relative actions need the action layout", dataset, tmp_path, replace(MODEL, relative=True))


def test_relative_actions_without_states_are_refused_before_anything_is_encoded(tmp_path):
    data = Partly(posed(tmp_path / "poses"), set())
    data.state_width = None
    message = "relative actions need 7 numbers of each action and 7 of each state, but it has 7 and 0"
    refused(message, data, tmp_path, replace(MODEL, relative=True))


def test_the_stage_video_needs_nothing_that_relative_actions_need(dataset, tmp_path):
    watching = replace(TRAINING, stage=STAGES["video"])
    model, _ = prepare(dataset, replace(MODEL, relative=True), watching, tmp_path / "run")
    assert model.head is None and model.config.relative


def test_what_a_checkpoint_says_of_its_actions_binds_the_data(tmp_path):
    data = posed(tmp_path / "poses")
    _, config = suited(data, MODEL, TRAINING)
    assert config.action_layout == POSE
    other = "position rotation_6d"
    nine = Normalizer((-1.0,) * 9, (1.0,) * 9)
    init = small_model(nine, action_layout=other)
    sources, config = suited(data, init.config, TRAINING, init)
    assert config.action_layout == sources[0].dataset.action_layout == other
    assert sources[0].dataset.action_width == 9
    # Video alone never learnt what an action is.
    watched = small_model(None, action_layout=other)
    assert suited(data, watched.config, TRAINING, watched)[1].action_layout == POSE
