import numpy as np
import pytest
import torch
from tests.small import CLONING, observation, relative_model, small_model

from videopolicy import registry
from videopolicy.diagnosis.given import CLEANEST, Informed, how_shown
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.noise import independent, joint, pinned
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy

SAMPLING = Sampling(steps=1, sigma_max=10.0)


@pytest.mark.parametrize("law", [joint.Config(), independent.Config()])
def test_a_future_is_shown_at_levels_that_the_head_was_trained_at(law):
    assert law.covers(how_shown(SAMPLING, law).levels[:-1])


def test_it_is_shown_as_cleanly_as_the_law_allows():
    clean = how_shown(SAMPLING, independent.Config()).levels
    assert float(clean.video.max()) == pytest.approx(independent.Config().video.quantile(CLEANEST))
    same = how_shown(SAMPLING, joint.Config()).levels
    assert torch.equal(same.video, same.actions)
    assert len(same) > 5
    one_pass = Sampling(sampler="one_pass", steps=4, sigma_max=10.0)
    blind = how_shown(one_pass, pinned.Config(sigma=10.0))
    assert blind.levels.video.unique().tolist() == [10.0]
    assert "little of it may be left" in blind.told
    unknown = how_shown(SAMPLING, None).levels
    assert (unknown.video[:-1].tolist(), unknown.actions[:-1].tolist()) == ([10.0], [10.0])


@pytest.mark.parametrize("law", [None, joint.Config(), independent.Config(), pinned.Config(sigma=10.0)])
def test_actions_come_to_their_end(law):
    levels = how_shown(SAMPLING, law).levels
    assert float(levels.actions[-1]) == 0
    assert float(levels.actions[0]) == SAMPLING.sigma_max
    assert bool((levels.video[:-1] > 0).all())


@pytest.fixture
def reading(monkeypatch):
    """A policy whose head gives the mean of the video that it is shown as every action; and all that it was shown."""
    model, shown = small_model(sampling=SAMPLING), []

    def denoise(x, levels, condition):
        shown.append((x.video, levels.video))
        return Joint(torch.zeros_like(x.video), torch.zeros_like(x.actions) + x.video.mean((1, 2, 3, 4))[:, None, None])

    monkeypatch.setattr(model, "denoise", denoise)
    return CheckpointPolicy(model, SAMPLING, law=independent.Config()), shown


def test_the_head_reads_the_given_future_at_the_level_that_is_said(reading):
    policy, shown = reading
    informed = Informed(policy)
    level = float(informed.shown.levels.video[0])
    videos = [torch.full_like(policy.model.blank(1).video, value) for value in (-0.5, 0.7)]
    for video in videos:
        shown.clear()
        actions = informed.draw([observation()], [3], video)
        assert float(actions.mean()) == pytest.approx(float(video.mean()), abs=0.1)
        for noisy, levels in shown:
            assert float(levels) == pytest.approx(level)
            assert float((noisy - video).std()) == pytest.approx(level, rel=0.1)


def test_to_inform_a_head_leaves_the_policy_as_it_was(reading):
    policy, _ = reading
    before = policy.draw([observation()], [3])[0]
    Informed(policy).draw([observation()], [3], policy.model.blank(1).video)
    after = policy.draw([observation()], [3])[0]
    assert torch.equal(before.actions, after.actions)


def test_frames_become_what_training_shows(reading):
    policy, _ = reading
    informed, model = Informed(policy), policy.model
    frames = np.stack([observation(seed=seed, size=48).images["top"] for seed in range(3)])
    video = informed.latents_of({"top": frames, "close": frames})
    assert video.shape == model.blank(1).video.shape
    fitted = np.stack([observation(seed=seed, size=32).images["top"] for seed in range(3)])
    decoded = model.decode(video, model.latents.encode(torch.from_numpy(fitted[:1]))[None])[0, 0].numpy()
    assert np.abs(decoded.astype(float) - fitted[1:]).mean() < np.abs(fitted[:1].astype(float) - fitted[1:]).mean()


def test_where_nothing_moves_every_frame_is_the_current_one(reading):
    policy, _ = reading
    informed, now = Informed(policy), observation()
    image = now.images["top"]
    torch.testing.assert_close(informed.still(now), informed.latents_of({"top": np.stack([image] * 3)}))


def test_plans_are_in_the_envs_units_and_actions_of_data_in_the_models():
    model = relative_model(sampling=SAMPLING)
    policy = CheckpointPolicy(model, SAMPLING)
    informed, now = Informed(policy), observation()
    now = type(now)(now.images, now.instruction, policy.origin)
    plan = informed.plan(now, 3, informed.still(now))
    drawn = informed.draw([now], [3], informed.still(now))[0].numpy()
    # What was drawn of a rotation is none, before a plan makes one of it.
    kept = [0, 1, 2, 9]
    back = informed.normalized(plan.actions, now)
    np.testing.assert_allclose(back[:, kept], model.normalizer.clip(drawn)[:, kept], atol=1e-4)


def test_a_policy_without_video_is_refused_in_a_line():
    model = small_model(**CLONING)
    with pytest.raises(UserError, match="imagines no video") as error:
        Informed(CheckpointPolicy(model, model.config.sampling))
    assert len(str(error.value).splitlines()) == 1


def test_every_law_can_be_shown_a_future():
    for name in registry.names("noise"):
        law = getattr(registry.module("noise", name), "EXAMPLE", None) or registry.build("noise", name)
        assert len(how_shown(SAMPLING, law).levels) >= 2
