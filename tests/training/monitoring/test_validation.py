from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import Partly

from videopolicy.actions.layout import Layout
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.noise import independent, joint, pinned
from videopolicy.similarity import CEILING
from videopolicy.training.monitoring import validation
from videopolicy.training.monitoring.validation import Validator, evenly, parts, set_apart, similarity
from videopolicy.training.stages import STAGES

pytestmark = pytest.mark.slow


@pytest.fixture
def validator(trainer):
    """A function from a trainer's arguments to what measures on its clips."""

    def build(batch=4, seed=0, **changes):
        run = trainer(**changes)
        return Validator(run.objective, run.clips, batch, seed)

    return build


def test_the_same_weights_give_the_same_numbers_and_others_do_not(validator):
    one = validator()
    found, drawn = one.measure()
    again, redrawn = one.measure()
    assert found == again
    np.testing.assert_array_equal(drawn.imagined, redrawn.imagined)
    with torch.no_grad():
        for weight in one.objective.model.backbone.parameters():
            weight.mul_(1.1)
    assert one.losses()["video"] != found["video"]


def test_a_resumed_run_measures_what_an_uninterrupted_one_does(trainer):
    whole = trainer("whole", split=1, validate_every=4)
    whole.train()
    killed = trainer("parts", split=1, validate_every=4, save_every=2)
    killed.objective.register_forward_pre_hook(lambda *_: 1 / 0 if killed.step == 3 else None)
    with pytest.raises(ZeroDivisionError):
        killed.train()
    resumed = trainer("parts", split=1, validate_every=4)
    resumed.resume()
    resumed.train()
    told = [(run.run / "validation.jsonl").read_text(encoding="utf-8") for run in (whole, resumed)]
    assert told[0] == told[1] and told[0].count("\n") == 1


def test_how_many_fit_on_the_device_changes_nothing(validator):
    few, many = validator(batch=3), validator(batch=50)
    assert few.losses() == pytest.approx(many.losses(), rel=1e-5)
    np.testing.assert_array_equal(few.draw(6).real, many.draw(6).real)
    assert np.abs(few.draw(6).imagined.astype(int) - many.draw(6).imagined).max() <= 1


def test_another_seed_is_other_noise(validator):
    assert validator(seed=0).losses() != validator(seed=1).losses()


def test_measuring_changes_neither_the_run_nor_its_mode(validator):
    one = validator()
    before = torch.random.get_rng_state()
    was = one.objective.training
    one.measure()
    assert torch.equal(torch.random.get_rng_state(), before) and one.objective.training == was
    assert all(weight.grad is None for weight in one.objective.parameters())


def test_losses_are_told_at_each_level_and_their_mean(validator):
    found = validator().losses()
    for part in ("video", "action"):
        each = [value for name, value in found.items() if name.startswith(f"{part}/sigma_")]
        assert len(each) == validation.LEVELS
        assert found[part] == pytest.approx(np.mean(each))


@pytest.mark.parametrize(
    ("stage", "there", "absent"),
    [
        ("video", {"video", "psnr", "ssim"}, {"action", "action_error"}),
        ("action", {"action", "action_error"}, {"video", "psnr", "ssim"}),
    ],
)
def test_only_what_learns_is_measured(validator, stage, there, absent):
    found, _ = validator(stage=STAGES[stage]).measure()
    assert there <= set(found) and not absent & set(found)


def test_a_perfect_policy_has_no_error(validator, monkeypatch):
    one = validator()
    model, clean = one.objective.model, one.objective.clean

    def truth(batch, noise):
        return clean(batch, None)

    monkeypatch.setattr(one.objective, "imagine", truth)
    found, drawn = one.measure()
    np.testing.assert_array_equal(drawn.imagined, drawn.real)
    assert (found["psnr"], found["ssim"]) == (CEILING, pytest.approx(1))
    assert found["action_error"] == 0

    def off(batch, noise):
        answer = clean(batch, None)
        return Joint(answer.video, answer.actions + torch.tensor([0.5, -0.25]))

    monkeypatch.setattr(one.objective, "imagine", off)
    worse = one.measure()[0]
    half = (np.array(model.normalizer.high) - model.normalizer.low) / 2
    assert worse["action_error"] == pytest.approx(0.375)
    assert worse["action_error/dimension_0"] == pytest.approx(0.5 * half[0], rel=1e-4)
    assert worse["action_error/dimension_1"] == pytest.approx(0.25 * half[1], rel=1e-4)


@pytest.mark.parametrize("law", [joint.Config(), independent.Config(), pinned.EXAMPLE])
@pytest.mark.parametrize("stage", ["joint", "action"])
def test_every_law_and_stage_is_measured_at_levels_of_its_own(validator, law, stage):
    found = validator(noise=law, stage=STAGES[stage]).losses()
    parts = STAGES[stage].losses
    assert {name.partition("/")[0] for name in found} == set(parts) and np.isfinite(list(found.values())).all()
    assert len(found) == len(parts) * (validation.LEVELS + 1)


def test_clips_without_actions_have_no_action_error(validator, dataset):
    some = validator(data=Partly(dataset, {0, 1}))
    found, _ = some.measure()
    indices = evenly(len(some.clips), validation.DRAWN)
    known = some.clips.batch(indices, None).has_actions
    assert 0 < known.sum() < len(known) and np.isfinite(found["action_error"])


def test_worse_pictures_score_less(validator):
    drawn = validator().draw(4)
    perfect = similarity(replace(drawn, imagined=drawn.real))
    noise = np.random.default_rng(0).integers(-20, 20, drawn.real.shape)
    noisy = np.clip(drawn.real + noise, 0, 255).astype(np.uint8)
    worse = similarity(replace(drawn, imagined=noisy))
    assert worse["psnr"] < perfect["psnr"] == CEILING and worse["ssim"] < perfect["ssim"]


def test_parts_of_an_action_have_names():
    named = parts(Layout.parse("position rotation_6d gripper[-1,1] gripper:2"), 12)
    assert named["position"] == slice(0, 3) and named["rotation_6d"] == slice(3, 9)
    assert named["gripper_9"] == slice(9, 10) and named["gripper_10"] == slice(10, 12)
    assert list(parts(None, 2)) == ["dimension_0", "dimension_1"]


@pytest.mark.parametrize(("count", "most"), [(1, 4), (3, 4), (100, 16), (17, 16)])
def test_places_are_spread_from_end_to_end(count, most):
    found = evenly(count, most)
    assert len(found) == min(count, most) and found[0] == 0 and found[-1] == (count - 1 if most > 1 else 0)
    assert len(found) < 2 or np.ptp(np.diff(found)) <= 1


def test_a_few_episodes_are_held_out_and_none_is_trained_on(trainer):
    clips = trainer().clips
    learnt, held_out = set_apart(clips, 2)
    assert len(learnt.episodes) == len(held_out.episodes) == 2
    assert len(learnt) + len(held_out) == len(clips)
    whole = clips.batch(np.arange(len(clips)), None).future
    apart = np.concatenate([part.batch(np.arange(len(part)), None).future for part in (learnt, held_out)])
    assert sorted(code.tobytes() for code in whole) == sorted(code.tobytes() for code in apart)


def test_a_small_data_set_holds_less_out_and_a_single_episode_nothing(trainer):
    clips = trainer().clips
    assert len(set_apart(clips, 100)[1].episodes) == 2
    three = clips.split(1)[0]
    assert len(set_apart(three, 2)[1].episodes) == 1
    one = three.split(2)[0]
    assert set_apart(one, 2) == (one, None) and set_apart(clips, 0) == (clips, None)
