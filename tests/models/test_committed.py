"""Chunks that continue actions which are executed whatever they say (Black et al. 2025, arXiv 2512.05964)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import MODEL, TRAINING, batch, fitted, observation, small_model, write_data

from videopolicy import checkpoint
from videopolicy.checkpoint import Provenance, save
from videopolicy.errors import UserError
from videopolicy.executors.chunked import Chunked
from videopolicy.models.masked import Config as Masked
from videopolicy.models.unified import Config as Unified
from videopolicy.policies.checkpoint import CheckpointPolicy, make
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Objective, total
from videopolicy.training.run import train


def loss_of(model, clips, seed=0):
    loss = Objective(model, TRAINING)
    return loss(clips, draw_noise(model, TRAINING, clips, torch.Generator().manual_seed(seed)))


def test_a_random_number_of_first_actions_is_given_and_does_not_count():
    model = small_model(committed=3)
    steps = model.config.window.actions
    found = set()
    for seed in range(20):
        counts = loss_of(model, batch(model), seed).counts
        for clip in counts.actions:
            first = int(clip.sum())
            assert clip.tolist() == [False] * (steps - first) + [True] * first
            found.add(steps - first)
        assert counts.video.all()
    assert found == {0, 1, 2, 3}


def test_committed_actions_reach_the_others_and_come_back_as_they_are():
    torch.manual_seed(0)
    model = small_model(committed=3)
    with torch.no_grad():
        model.continuation.last.weight.normal_()
    clips = batch(model)
    objective = Objective(model, TRAINING)
    clean = objective.clean(clips, None)
    steps = torch.tensor([0, 2, 3])
    given = objective.condition(clips).commit(clean.actions, steps)
    noise = model.blank(3).map(torch.randn_like)
    drawn = model.sample(given, noise, model.config.sampling).actions
    nothing = objective.condition(clips).commit(clean.actions, 0 * steps)
    free = model.sample(nothing, noise, model.config.sampling).actions
    for row, count in enumerate(steps.tolist()):
        # They come out of noise 80 times as large, and are rounded as it is.
        torch.testing.assert_close(drawn[row, :count], clean.actions[row, :count], rtol=0, atol=1e-4)
        assert torch.equal(drawn[row], free[row]) == (count == 0)
        assert count == 0 or not torch.allclose(drawn[row, count:], free[row, count:])


def test_a_head_that_is_told_of_no_commitment_is_asked_as_it_was_taught_to_answer_to_none():
    """Held-out losses and labels tell it of none, training and acting that it is none."""
    model = small_model(committed=3)
    with torch.no_grad():
        for weight in model.continuation.parameters():
            weight.normal_()
    clips = batch(model)
    objective = Objective(model, TRAINING)
    silent, noise = objective.condition(clips), model.blank(3).map(torch.randn_like)
    said = silent.commit(objective.clean(clips, None).actions, torch.zeros(3, dtype=torch.int64))
    drawn = [model.sample(given, noise, model.config.sampling).actions for given in (silent, said)]
    assert torch.equal(*drawn)


def test_clips_without_actions_commit_nothing_whatever_they_hold():
    model = small_model(committed=3)
    clips = batch(model)
    clips = replace(clips, actions=np.full_like(clips.actions, np.nan), has_actions=np.array([False] * 3))
    losses = loss_of(model, clips)
    total(losses).backward()
    assert not losses.counts.actions.any() and torch.isfinite(losses.video).all()


def test_what_learns_them_is_all_that_is_new():
    plain, continuing = small_model(), small_model(committed=3)
    new = set(continuing.state_dict()) - set(plain.state_dict())
    assert new and all(name.startswith("continuation.") for name in new)
    total(loss_of(continuing, batch(continuing))).backward()
    assert continuing.continuation.last.weight.grad.any()


def test_a_late_plan_begins_with_what_was_executed_meanwhile():
    policy = CheckpointPolicy(small_model(committed=4), small_model().config.sampling)
    plans = []

    def ask(seen, seed):
        plans.append((seen, policy.plan([seen], [seed], False)[0]))
        return plans[-1][1]

    executor = Chunked(ask, execute=4, latency=3)
    executor.reset(0)
    done = [executor.act(observation(seed=step) if executor.needs_observation else None) for step in range(12)]
    for index, (seen, plan) in enumerate(plans[1:], 1):
        assert seen.committed == 3
        np.testing.assert_allclose(plan.actions[:3], np.stack(done[4 * index : 4 * index + 3]), atol=1e-5)


@pytest.mark.parametrize("kind", [Masked, Unified])
def test_other_kinds_of_model_learn_them_too(kind):
    model = fitted(kind.of(MODEL, committed=2))
    total(loss_of(model, batch(model))).backward()
    assert model.continuation.last.weight.grad.any()


def test_some_action_is_left_open():
    with pytest.raises(UserError, match="leave some open"):
        small_model(committed=small_model().config.window.actions)


def test_guidance_brings_a_plan_to_the_one_before_and_nothing_else_changes_it():
    model = small_model()
    sampling = replace(model.config.sampling, sampler="one_pass", steps=10)
    plain, guided = (CheckpointPolicy(model, replace(sampling, inpaint=limit)) for limit in (None, 5.0))
    seen = observation(seed=3)
    first = plain.plan([seen], [0], False)[0].actions
    assert np.array_equal(guided.plan([seen], [0], False)[0].actions, first)
    earlier = plain.plan([observation(seed=4)], [5], False)[0].actions
    later = replace(seen, planned=earlier[2:], committed=2)
    assert np.array_equal(plain.plan([later], [0], False)[0].actions, first)
    off = [np.abs(policy.plan([later], [0], False)[0].actions[:2] - earlier[2:4]).mean() for policy in (plain, guided)]
    assert off[1] < 0.7 * off[0]


def test_a_policy_learns_to_continue_and_goes_on_doing_so(tmp_path):
    data = write_data(tmp_path / "dots")
    recipe = replace(TRAINING, steps=1, validation_episodes=0)
    checkpoint.save(small_model(), Provenance("joint", 1), tmp_path / "plain")
    continuing = train(data, replace(MODEL, committed=3), recipe, tmp_path / "continuing", init=tmp_path / "plain")
    further = train(data, MODEL, recipe, tmp_path / "further", init=continuing)
    assert [checkpoint.load(folder)[0].config.committed for folder in (continuing, further)] == [3, 3]
    with pytest.raises(UserError, match="its head continues 3 committed actions; leave --committed out"):
        train(data, replace(MODEL, committed=2), recipe, tmp_path / "other", init=continuing)


def test_more_committed_actions_than_it_learnt_are_told_once(capsys):
    policy = CheckpointPolicy(small_model(committed=2), small_model().config.sampling)
    planned = np.zeros((6, 2), np.float32)
    late = replace(observation(), planned=planned, committed=5)
    policy.plan([late], [0], False)
    policy.plan([late], [1], False)
    assert capsys.readouterr().err.count("5 actions are executed before a plan arrives, but the head learnt") == 1


def test_a_head_that_goes_on_by_itself_is_not_guided_too(tmp_path):
    save(small_model(committed=2), Provenance("joint", 1), tmp_path / "checkpoint")
    with pytest.raises(UserError, match=r"^--inpaint guides a head that has not learnt to go on from a plan"):
        make(tmp_path / "checkpoint", inpaint=5.0)
