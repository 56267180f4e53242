from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import MODEL, NORMALIZER, TRAINING, Partly, policy, same, write_data

from videopolicy import registry
from videopolicy.clips.normalize import MinMax
from videopolicy.errors import UserError
from videopolicy.latents import svd
from videopolicy.text import clip
from videopolicy.training.setup import build, prepare


@pytest.fixture(scope="module")
def prepared(dataset, tmp_path_factory):
    return prepare(dataset, MODEL, TRAINING, tmp_path_factory.mktemp("run"))


def test_clips_hold_what_the_data_shows_in_the_models_latents(prepared, dataset):
    model, clips = prepared
    assert len(clips) == sum(dataset.length(index) for index in range(len(dataset)))
    first = torch.from_numpy(clips.clip(0).current)
    decoded = model.latents.decode(model.latents.sample(first, None))[0].numpy().astype(float)
    shown = dataset.episode(0, ["top"]).views["top"][0]
    assert np.corrcoef(decoded.ravel(), shown.ravel())[0, 1] > 0.8


def test_actions_are_normalised_to_the_range_of_the_data(prepared, dataset):
    model, clips = prepared
    actions = np.concatenate([dataset.episode(index).actions for index in range(len(dataset))])
    assert model.normalizer == clips.normalizer == MinMax.fit(actions)
    np.testing.assert_allclose(model.normalizer.invert(clips.clip(0).actions), actions[:8], atol=1e-5)


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
    init = policy(seed=5)
    model, clips = prepare(dataset, init.config, TRAINING, tmp_path, init)
    assert same(model, init) and model is not init
    assert model.normalizer == clips.normalizer == NORMALIZER


def test_a_model_of_video_alone_is_given_a_head(dataset, tmp_path):
    init = policy(None, seed=5)
    model, _ = prepare(dataset, init.config, TRAINING, tmp_path, init)
    assert model.head is not None and model.action_width == 2
    assert same(model.backbone, init.backbone) and same(model.text, init.text) and same(model.latents, init.latents)


def refused(message, dataset, tmp_path, config=MODEL, training=TRAINING, init=None):
    with pytest.raises(UserError, match=message):
        prepare(dataset, config, training, tmp_path / "run", init)
    assert not (tmp_path / "run" / "cache").exists()


def test_a_view_that_the_data_lacks_is_refused(dataset, tmp_path):
    refused("'topp'; did you mean 'top'", dataset, tmp_path, replace(MODEL, views=("top", "topp")))


@pytest.mark.parametrize("fresh", [True, False])
def test_pictures_of_another_size_are_refused(tmp_path, fresh):
    write_data(tmp_path / "large", episodes=1, size=48)
    large = registry.build("demos", "lerobot", tmp_path / "large")
    init = None if fresh else policy()
    refused("large: view 'top' is 48x48 pixels, but the policy sees 32x32", large, tmp_path, init=init)


def test_actions_of_another_width_than_the_checkpoints_are_refused(dataset, tmp_path):
    init = policy(MinMax((-1.0,) * 4, (1.0,) * 4))
    refused("actions are 2 wide, the checkpoint's 4", dataset, tmp_path, init=init)


def test_a_view_that_the_checkpoint_wants_is_refused_if_lacking(dataset, tmp_path):
    init = policy(views=("front",))
    refused("'front'", dataset, tmp_path, init.config, init=init)


def test_episodes_shorter_than_a_window_are_refused(dataset, tmp_path):
    long = replace(MODEL, window=replace(MODEL.window, actions=64))
    refused(r"episode 0 has \d+ control steps, but a window spans 64", dataset, tmp_path, long)


@pytest.mark.parametrize("stage", ["action", "joint"])
@pytest.mark.parametrize("start", [None, NORMALIZER])
def test_a_stage_that_needs_actions_is_refused_without_any(dataset, tmp_path, stage, start):
    without = Partly(dataset, {0, 1, 2, 3})
    init = start and policy(start)
    refused(f"no episode has actions.*'{stage}'", without, tmp_path, training=replace(TRAINING, stage=stage), init=init)


def test_no_episodes_are_refused(dataset, tmp_path):
    class Empty(Partly):
        def __len__(self):
            return 0

    refused("no episodes", Empty(dataset, set()), tmp_path)


@pytest.mark.parametrize(
    "part", [{"latents": svd.Config(channels=(32, 32))}, {"text": clip.Config(width=16, hidden=16, layers=1, heads=2)}]
)
def test_fresh_weights_of_a_pretrained_part_are_refused(dataset, tmp_path, part):
    with pytest.raises(UserError, match=r"videopolicy import.*--init"):
        prepare(dataset, replace(MODEL, **part), TRAINING, tmp_path / "run")


def test_the_stage_video_leaves_the_head_and_its_normaliser_to_a_later_stage(dataset, tmp_path):
    acting, _ = prepare(dataset, MODEL, TRAINING, tmp_path / "joint")
    watching, clips = prepare(dataset, MODEL, replace(TRAINING, stage="video"), tmp_path / "video", acting)
    assert (
        watching.head is None
        and watching.normalizer is None
        and clips.batch(np.arange(2), np.random.default_rng(0)).has_actions.all()
    )
    again, _ = prepare(dataset, MODEL, replace(TRAINING, stage="action"), tmp_path / "action", watching)
    assert again.head is not None and same(again.backbone, acting.backbone)


def test_an_instruction_that_is_too_long_is_refused_before_training(dataset, tmp_path):
    with pytest.raises(UserError, match="words"):
        prepare(dataset, replace(MODEL, text=replace(MODEL.text, length=2)), TRAINING, tmp_path / "run")
