"""What a noise law has not count reaches the loss, and the loss at the levels of validation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import TRAINING, batch, small_model

from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise import asynchronous, cascade, joint
from videopolicy.diffusion.noise.base import CLEAN
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Objective
from videopolicy.training.stages import ACTION, VIDEO

CLIPS = 3


@pytest.fixture(scope="module")
def model():
    return small_model()


def noise_of(model, clips, law, seed=0, **changes):
    training = replace(TRAINING, noise=law, **changes)
    return draw_noise(model, training, clips, torch.Generator().manual_seed(seed))


def mixed(model, law):
    """The noise of a batch in which some clips have clean actions, and which they are."""
    for seed in range(50):
        noise = noise_of(model, batch(model), law, seed)
        clean = noise.levels.actions <= CLEAN * 1.0001
        if clean.any() and not clean.all():
            return noise, clean
    raise AssertionError("no batch has both kinds of clips")


def test_clean_actions_do_not_count_and_all_video_does(model):
    noise, clean = mixed(model, asynchronous.Config())
    assert torch.equal(noise.counts.actions, ~clean[:, None].expand(noise.counts.actions.shape))
    assert noise.counts.video.all()


def test_a_clip_without_actions_has_none_that_count_whatever_the_law_says(model):
    clips = replace(batch(model), has_actions=np.array([True, False, True]))
    for law in (joint.Config(), asynchronous.Config(clean=0.0)):
        assert noise_of(model, clips, law).counts.has_actions.tolist() == [True, False, True]
    assert not noise_of(model, clips, asynchronous.Config(clean=0.99), seed=1).counts.actions.any()


def test_a_stage_that_has_no_loss_of_a_part_has_none_that_counts(model):
    assert not noise_of(model, batch(model), asynchronous.Config(clean=0.0), stage=VIDEO).counts.actions.any()
    assert not noise_of(model, batch(model), asynchronous.Config(), stage=ACTION).counts.video.any()


def test_what_is_drawn_beside_the_levels_is_the_same_whether_they_count_or_not(model):
    drawn = [noise_of(model, batch(model), asynchronous.Config(clean=share)) for share in (0.0, 0.99)]
    assert torch.equal(drawn[0].noise.actions, drawn[1].noise.actions)
    assert torch.equal(drawn[0].seeds, drawn[1].seeds)


def test_the_loss_of_clean_actions_is_nothing_whatever_they_are(model):
    law = asynchronous.Config()
    objective, clips = Objective(model, replace(TRAINING, noise=law)), batch(model)
    noise, clean = mixed(model, law)
    other = replace(clips, actions=np.where(clean.numpy()[:, None, None], 5 - clips.actions, clips.actions))
    losses, others = objective(clips, noise), objective(other, noise)
    assert torch.equal(losses.actions, others.actions)
    assert not losses.actions[clean].any() and losses.actions[~clean].all()
    assert losses.video.all()


def test_a_measurement_at_clean_actions_has_none_that_count(model):
    objective, clips = Objective(model, replace(TRAINING, noise=asynchronous.Config())), batch(model)
    normal = Joint.randn_like(objective.clean(clips, None), torch.Generator().manual_seed(0))
    for actions, counts in ((CLEAN, False), (1.0, True)):
        losses = objective.losses_at(clips, Levels(torch.tensor(3.0), torch.tensor(actions)), normal)
        assert losses.counts.has_actions.tolist() == [counts] * CLIPS
        assert losses.counts.video.all() and bool(losses.actions.any()) == counts


def test_the_head_learns_from_a_future_that_the_video_is_not_learnt_from(model):
    noise = noise_of(model, batch(model), cascade.Config())
    objective = Objective(model, replace(TRAINING, noise=cascade.Config()))
    losses = objective(batch(model), noise)
    elsewhere = replace(noise, levels=replace(noise.levels, features=noise.levels.features * 3))
    others = objective(batch(model), elsewhere)
    assert torch.equal(losses.video, others.video)
    assert not torch.equal(losses.actions, others.actions)
