from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tests.datasets.checking.test_checks import InMemory
from tests.small import ARM, CLONING, MOTION, NORMALIZER, observation, relative_model, small_model

from videopolicy import checkpoint
from videopolicy.checkpoint import Provenance
from videopolicy.clips.normalize import Normalizer
from videopolicy.datasets.transforms.resize import Resized
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.noise import asynchronous, cascade, flash, independent, joint, pinned, starts
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.policies.base import PolicySpec
from videopolicy.policies.checkpoint import CheckpointPolicy, make
from videopolicy.types import Episode

SAMPLING = Sampling("euler", steps=2)


@pytest.fixture(scope="module")
def model():
    return small_model(views=("close", "top"), pad=1)


@pytest.fixture(scope="module")
def policy(model):
    return CheckpointPolicy(model, SAMPLING)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    checkpoint.save(model, Provenance("joint", 1, ("reach-red",)), folder)
    return folder


def test_it_describes_itself(policy):
    expected = PolicySpec(
        views=("close", "top"),
        size=32,
        action_width=2,
        chunk=8,
        execute=4,
        sampling={"sampler": "euler", "steps": 2, "precision": "float32"},
    )
    assert policy.spec == expected


def test_a_plan_is_a_chunk_in_the_envs_units_within_what_was_demonstrated(model):
    # Large outputs: what a sample says beyond the range must not reach the robot.
    torch.nn.init.normal_(model.head.out[-1].bias, std=30, generator=torch.Generator().manual_seed(0))
    plans = CheckpointPolicy(model, SAMPLING).plan([observation()] * 4, [1, 2, 3, 4], False)
    torch.nn.init.zeros_(model.head.out[-1].bias)
    actions = np.stack([plan.actions for plan in plans])
    assert actions.shape == (4, 8, 2) and actions.dtype == np.float32
    low, high = np.array(NORMALIZER.low), np.array(NORMALIZER.high)
    assert (actions >= low - 1e-6).all() and (actions <= high + 1e-6).all()
    assert np.isclose(actions, low).any() or np.isclose(actions, high).any(), "nothing was at the border"
    assert all(plan.offsets == (2, 4) for plan in plans)


def test_a_plan_that_is_no_number_is_left_to_who_executes_it_and_harms_no_other(policy, monkeypatch):
    own = policy.sample

    def diverged(condition, noise, **more):
        drawn = own(condition, noise, **more)
        return Joint(drawn.video, drawn.actions.index_fill(1, torch.tensor([3]), torch.inf))

    whole = policy.plan([observation()], [5], False)[0].actions
    monkeypatch.setattr(policy, "sample", diverged)
    plan = policy.plan([observation()], [5], False)[0].actions
    assert np.isnan(plan[3]).all()
    np.testing.assert_array_equal(np.delete(plan, 3, 0), np.delete(whole, 3, 0))


def test_of_a_relative_plan_with_a_hole_nothing_is_known():
    model = relative_model()
    policy = CheckpointPolicy(model, SAMPLING)
    broken = np.zeros((model.config.window.actions, model.action_width), np.float32)
    broken[2] = np.nan
    moved = policy.executable(broken, policy.origin)
    assert moved.shape == (len(broken), policy.spec.action_width) and np.isnan(moved).all()


def test_on_a_cpu_a_plan_is_the_same_to_the_bit_whoever_shares_its_batch():
    # What ends in zeros, as fresh weights do, would hide the rounding.
    model, generator = small_model(), torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    policy, seen, seeds = CheckpointPolicy(model, SAMPLING), [observation(seed) for seed in range(5)], list(range(5))
    together = policy.plan(seen, seeds, False)
    alone = [policy.plan([one], [seed], False)[0] for one, seed in zip(seen, seeds, strict=True)]
    np.testing.assert_array_equal([plan.actions for plan in together], [plan.actions for plan in alone])


def test_video_is_decoded_only_for_those_who_ask(policy):
    plans = policy.plan([observation()] * 3, [1, 2, 3], [False, True, False])
    assert [plan.imagined is None for plan in plans] == [True, False, True]
    imagined = plans[1].imagined
    assert list(imagined) == ["close", "top"]
    assert all(frames.shape == (2, 32, 32, 3) and frames.dtype == np.uint8 for frames in imagined.values())
    assert all(plan.imagined is not None for plan in policy.plan([observation()] * 2, [1, 2], True))
    assert all(plan.imagined is None for plan in policy.plan([observation()] * 2, [1, 2], False))


def test_to_be_shown_the_video_changes_no_action(policy):
    silent, shown = (policy.plan([observation()], [5], imagine)[0] for imagine in (False, True))
    np.testing.assert_array_equal(silent.actions, shown.actions)


def test_views_are_taken_by_name_whatever_their_order(policy):
    seen = observation()
    backwards = replace(seen, images=dict(reversed(seen.images.items())))
    more = replace(seen, images={"front": seen.images["top"][:5], **seen.images})
    first, second, third = (policy.plan([each], [5], False)[0].actions for each in (seen, backwards, more))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    swapped = replace(seen, images={"top": seen.images["close"], "close": seen.images["top"]})
    assert not np.allclose(first, policy.plan([swapped], [5], False)[0].actions, atol=1e-6)


def test_imagined_frames_belong_to_the_view_that_they_are_named_after(policy, model):
    seen = observation()
    codes = policy.encode([seen])
    condition = model.condition(codes, [seen.instruction])
    # As if every view's future were its own current image.
    drawn = Joint(condition.latents, torch.zeros(1, 8, 2))
    imagined = policy.decode(drawn, codes, [True])[0].imagined
    for view in policy.spec.views:
        image = torch.from_numpy(seen.images[view])[None]
        expected = model.latents.decode(model.latents.encode(image)).numpy()
        for frame in imagined[view]:
            np.testing.assert_array_equal(frame, expected[0])
    assert not np.array_equal(imagined["top"], imagined["close"])


def test_a_cameras_own_images_are_fitted_as_convert_fits_them(policy):
    rng = np.random.default_rng(0)
    cameras = {
        "top": rng.integers(0, 256, (480, 640, 3), np.uint8),
        "close": rng.integers(0, 256, (50, 40, 3), np.uint8),
    }
    recorded = InMemory([Episode({view: image[None] for view, image in cameras.items()}, "reach", 20)])
    converted = Resized(recorded, policy.spec.size).episode(0).views
    seen = observation()
    large = policy.plan([replace(seen, images=cameras)], [5], True)[0]
    fitted = policy.plan([replace(seen, images={view: f[0] for view, f in converted.items()})], [5], True)[0]
    assert converted["top"].shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(large.actions, fitted.actions)
    for view in policy.spec.views:
        np.testing.assert_array_equal(large.imagined[view], fitted.imagined[view])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"top": np.zeros((32, 32, 3), np.uint8)}, "'close'.*given top"),
        ({}, "'close'.*given none"),
        ({name: np.zeros((64, 64, 4), np.uint8) for name in ("top", "close")}, r"'close' is \(64, 64, 4\).*RGB"),
        ({name: np.zeros((0, 64, 3), np.uint8) for name in ("top", "close")}, r"'close' is \(0, 64, 3\)"),
        ({name: np.zeros((32, 32), np.uint8) for name in ("top", "close")}, r"'close' is \(32, 32\)"),
        ({name: np.zeros((32, 32, 3), np.float32) for name in ("top", "close")}, "'close'.*float32.*uint8"),
    ],
)
def test_an_observation_of_something_else_is_refused(policy, images, message):
    good = observation()
    with pytest.raises(UserError, match=message):
        policy.plan([good, replace(good, images=images)], [0, 1], False)


def test_the_checkpoints_own_way_of_sampling_is_taken_unless_told_otherwise(saved, model):
    assert make(saved).sampling == model.config.sampling
    told = make(saved, sampler="heun", steps=3)
    assert told.sampling == replace(model.config.sampling, sampler="heun", steps=3)
    assert told.spec.tasks == ("reach-red",)
    assert (told.spec.sampling["sampler"], told.spec.sampling["steps"]) == ("heun", 3)
    assert make(saved, precision="bfloat16").spec.sampling["precision"] == "bfloat16"
    assert make(saved, sampler="one_pass").sampling.steps == model.config.sampling.steps


@pytest.mark.parametrize(
    ("told", "message"),
    [({"sampler": "eulerr"}, "did you mean 'euler'"), ({"steps": 0}, "sampling.steps is 0; it must be from 1 to 1000")],
)
def test_a_sampler_or_a_number_of_steps_that_cannot_be_is_refused(saved, told, message):
    with pytest.raises(UserError, match=message):
        make(saved, **told)


def test_without_a_folder_it_says_how_one_is_given():
    with pytest.raises(UserError, match="--policy checkpoint:FOLDER"):
        make("")


def test_a_checkpoint_that_never_learned_to_act_is_refused(tmp_path):
    checkpoint.save(small_model(None), Provenance("video", 5), tmp_path / "checkpoint")
    with pytest.raises(UserError, match="trained on video alone"):
        make(tmp_path / "checkpoint")


def test_what_reads_recorded_video_is_refused_as_a_policy(tmp_path):
    checkpoint.save(small_model(**MOTION), Provenance("end_to_end", 1), tmp_path / "labels")
    with pytest.raises(UserError, match="cannot act; label videos by it with `videopolicy label`"):
        make(tmp_path / "labels")


def test_a_dimension_that_never_moved_comes_back_as_it_was():
    still = small_model(Normalizer((-1.0, 0.25), (1.0, 0.25)))
    actions = CheckpointPolicy(still, SAMPLING).plan([observation()], [0], False)[0].actions
    assert (actions[:, 1] == 0.25).all() and actions[:, 0].std() > 0


@pytest.fixture(scope="module")
def arm():
    return CheckpointPolicy(relative_model(), SAMPLING)


def test_relative_actions_begin_where_the_state_says(arm):
    spec = arm.spec
    assert (spec.action_width, spec.action_layout, spec.state_layout) == (7, ARM["action_layout"], ARM["state_layout"])
    turn, place = Rotation.from_rotvec([0.4, -1.2, 2.0]), np.array([0.3, 0.1, -0.7])
    there = np.concatenate((place, turn.as_quat())).astype(np.float32)
    seen = [replace(observation(), state=state) for state in (arm.origin, there)]
    origin, moved = (plan.actions for plan in arm.plan(seen, [5, 5], False))
    assert origin.shape == (8, 7) and moved.dtype == np.float32
    np.testing.assert_allclose(moved[:, :3], turn.apply(origin[:, :3]) + place, atol=1e-5)
    turned = turn * Rotation.from_rotvec(origin[:, 3:6])
    assert (turned.inv() * Rotation.from_rotvec(moved[:, 3:6])).magnitude().max() < 1e-5
    np.testing.assert_array_equal(moved[:, 6], origin[:, 6])
    assert origin[:, :3].std(0).min() > 0


@pytest.mark.parametrize(("state", "given"), [(None, "none"), (np.zeros(2, np.float32), r"one of shape \(2,\)")])
def test_without_the_state_that_relative_actions_begin_in_there_is_no_plan(arm, state, given):
    with pytest.raises(UserError, match=f"'position quaternion', 7 wide, but is given {given}"):
        arm.plan([replace(observation(), state=state)], [0], False)


def test_a_policy_of_the_envs_own_actions_needs_no_state(policy):
    assert (policy.spec.action_layout, policy.spec.state_layout, policy.origin) == ("", "", None)
    blind = replace(observation(), state=None)
    np.testing.assert_array_equal(
        policy.plan([blind], [5], False)[0].actions, policy.plan([observation()], [5], False)[0].actions
    )


def test_a_policy_without_video_shows_none_and_sees_every_image():
    policy = CheckpointPolicy(small_model(views=("close", "top"), **CLONING), SAMPLING)
    (plan,) = policy.plan([observation()], [1], imagine=True)
    assert plan.imagined is None and plan.offsets == ()
    assert plan.actions.shape == (8, 2) and np.isfinite(plan.actions).all()
    seen = observation()
    changed = replace(seen, images={**seen.images, "top": 255 - seen.images["top"]})
    assert not np.array_equal(policy.plan([changed], [1], False)[0].actions, plan.actions)


@pytest.mark.parametrize(
    ("law", "sampler", "steps", "note"),
    [
        (joint.Config(), "euler", 4, ""),
        (joint.Config(), "one_pass", 1, ""),
        (joint.Config(), "one_pass", 4, "sample by dpmpp or euler or heun, or train by noise law 'independent'"),
        (independent.Config(), "one_pass", 4, ""),
        (pinned.Config().resolve(Sampling().sigma_max), "one_pass", 4, ""),
        (pinned.Config().resolve(Sampling().sigma_max), "euler", 1, ""),
        (pinned.Config().resolve(Sampling().sigma_max), "euler", 4, "sample by one_pass, or train by noise law"),
        (pinned.Config(sigma=3.0), "euler", 4, "asks it in 4 steps; train by noise law 'independent'"),
        (starts.Config(2, sigma_max=80.0), "euler", 4, "asks it in 4 steps; sample in 2 steps, as it was taught"),
        (flash.Config(), "one_pass", 4, ""),
        (asynchronous.Config(), "euler", 4, ""),
        (asynchronous.Config(), "one_pass", 4, ""),
        (cascade.Config(), "one_pass", 4, "sample by cascade with --video-until 1 or less"),
        (None, "one_pass", 4, ""),
    ],
)
def test_a_sampler_that_the_noise_law_does_not_cover_is_noted_with_one_that_is(
    model, tmp_path, law, sampler, steps, note
):
    checkpoint.save(model, Provenance("joint", 1, noise=law), tmp_path / "checkpoint")
    notes = make(tmp_path / "checkpoint", sampler=sampler, steps=steps).spec.notes
    assert len(notes) == bool(note)
    assert all(note in line and "\n" not in line for line in notes)


def after(planned, state=None):
    return replace(observation(), planned=planned, state=state)


def test_a_warm_start_heeds_what_was_planned_and_is_cold_without(model):
    warm, cold = (CheckpointPolicy(model, Sampling(steps=4, warm_start=level)) for level in (2.0, None))
    left = warm.plan([after(None)], [1], False)[0].actions[4:]
    seen = after(left)
    first, again, other = (
        policy.plan([observation], [1], False)[0].actions
        for policy, observation in ((warm, seen), (warm, seen), (warm, after(left[:1])))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    for policy, given in ((warm, after(None)), (cold, seen)):
        same = cold.plan([after(None)], [1], False)[0].actions
        np.testing.assert_array_equal(policy.plan([given], [1], False)[0].actions, same)


def test_a_warm_start_just_above_zero_goes_on_as_planned_and_then_holds_the_last_action(model):
    policy = CheckpointPolicy(model, Sampling(steps=40, sigma_min=1e-3, warm_start=1e-3))
    planned = np.linspace([-0.9, -0.4], [0.9, 1.9], 5).astype(np.float32)
    actions = policy.plan([after(planned)], [1], False)[0].actions
    expected = planned[np.minimum(np.arange(len(actions)), 4)]
    np.testing.assert_allclose(actions, expected, atol=0.02)


def test_what_is_planned_for_an_arm_is_seen_from_where_it_is_now(arm):
    policy = CheckpointPolicy(arm.model, Sampling(steps=40, sigma_min=1e-4, warm_start=1e-4))
    state = np.array([0.3, 0.1, 0.2, 0, 0, 0, 1], np.float32)
    planned = np.tile(np.array([0.31, 0.12, 0.18, 0.0, 0.0, 0.1, 0.5], np.float32), (3, 1))
    plan = policy.plan([after(planned, state)], [1], False)[0]
    np.testing.assert_allclose(plan.actions[:, :3], np.broadcast_to(planned[0, :3], (len(plan.actions), 3)), atol=0.01)


@pytest.mark.parametrize("planned", [np.zeros((0, 2)), np.zeros((3, 5)), np.zeros(2)])
def test_planned_actions_of_another_shape_are_refused(model, planned):
    policy = CheckpointPolicy(model, Sampling(steps=2, warm_start=2.0))
    with pytest.raises(UserError, match=r"planned actions are \(n, 2\)"):
        policy.plan([after(planned.astype(np.float32))], [1], False)


def test_settings_record_what_makes_the_same_policy_again(tmp_path):
    """Also where an option takes back what the mode does."""
    folder = tmp_path / "checkpoint"
    model = small_model(modes={"fast": Sampling(steps=6, reuse=3, sigma_max=40.0)})
    checkpoint.save(model, Provenance("joint", 1), folder)
    for options in ({}, {"mode": "fast"}, {"mode": "fast", "reuse": 1}, {"mode": "fast", "steps": 4}):
        policy = make(folder, **options)
        again = make(folder, **policy.spec.sampling)
        assert again.sampling == policy.sampling and again.spec == policy.spec
        assert ("sigma_max" in policy.spec.identity) == ("mode" in options)
