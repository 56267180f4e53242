from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import ARM, MODEL, TRAINING, batch, observation, relative_model, small_model

from videopolicy.backbones.base import Condition
from videopolicy.clips.normalize import Normalizer
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.errors import UserError
from videopolicy.models.denoiser import Denoiser
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective, total
from videopolicy.training.stages import JOINT, STAGES

GUIDED = LinearGuidance(1.0, 2.0)
CASCADE = Sampling("cascade", steps=3, video_steps=2, video_until=1.0)
INSTRUCTIONS = ["reach the red disc", "press"]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def level(sigma):
    return Levels.same(torch.tensor(sigma))


def noise(model, size=2, seed=0):
    return Joint.randn_like(model.blank(size), torch.Generator().manual_seed(seed))


def condition(model, size=2):
    side = model.blank(1).video.shape[-2:]
    return model.condition(draw(size, len(model.config.views), 6, *side, seed=5), INSTRUCTIONS[:size])


@pytest.fixture(scope="module")
def model():
    """Two views and a pad, of which the presets have one or the other."""
    return small_model(views=("top", "close"), pad=1)


@pytest.mark.parametrize("pad", [0, 1, 3])
@pytest.mark.parametrize("views", [("top",), ("top", "close"), ("a", "b", "c")])
def test_flat_frames_are_one_view_after_the_other_behind_the_pad(pad, views):
    model = small_model(pad=pad, views=views)
    futures, current = draw(2, len(views), 2, 6, 4, 4), draw(2, len(views), 6, 4, 4, seed=1)
    flat = model.flatten(futures, current)
    assert flat.shape[1] == model.config.flat_frames == pad + 2 * len(views)
    assert torch.equal(model.unflatten(flat), futures)
    for frame in range(pad):
        assert torch.equal(flat[:, frame], current[:, 0])
    for view in range(len(views)):
        for frame in range(2):
            assert torch.equal(flat[:, pad + 2 * view + frame], futures[:, view, frame])


def test_each_frame_is_given_its_own_views_picture_and_the_pad_the_first_views(model):
    codes = draw(2, 2, 6, 4, 4)
    given = model.condition(codes, INSTRUCTIONS)
    views = [0, 0, 0, 1, 1]
    for frame, view in enumerate(views):
        assert torch.equal(given.latents[:, frame], model.latents.condition(codes[:, view]))
    assert torch.equal(given.text, model.text(INSTRUCTIONS)) and given.without_text is None
    assert given.latents.shape[1] == model.config.flat_frames


@torch.no_grad()
def test_hardly_any_noise_leaves_the_input_and_much_noise_does_not(model):
    x, given = noise(model), condition(model)
    clean = Denoiser(model, given)(x, level(1e-4))
    torch.testing.assert_close(clean.video, x.video, rtol=0, atol=1e-2)
    torch.testing.assert_close(clean.actions, x.actions, rtol=0, atol=1e-2)
    guess = Denoiser(model, given)(x * 80.0, level(80.0))
    assert guess.video.std() < 0.1 * (x * 80.0).video.std()
    assert guess.actions.std() < 0.1 * (x * 80.0).actions.std()


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_the_network_is_wrapped_in_the_preconditioning_of_edm(residual):
    """At sigma 1 with x = clean + noise, D = x / 2 - F(x / sqrt 2) / sqrt 2, and c_noise is 0."""
    model = small_model(views=("top", "close"), pad=1, residual=residual)
    x, given = noise(model), condition(model)
    origin = given.latents if residual else 0
    moved = x.video - origin
    raw, _ = model.backbone(moved / 2**0.5, given, torch.zeros(2))
    video, features = model.denoise_video(x.video, torch.ones(2), given)
    torch.testing.assert_close(video, origin + moved / 2 - raw / 2**0.5)
    vector = model.pool_features(features, torch.ones(2), given)
    head = model.head(x.actions / 2**0.5, vector, model.backbone.embed(torch.ones(2)))
    actions = model.denoise_actions(x.actions, torch.ones(2), vector, given)
    torch.testing.assert_close(actions, x.actions / 2 - head / 2**0.5)


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_a_network_that_says_nothing_leaves_a_residual_model_with_the_current_image(residual):
    model = small_model(residual=residual)
    torch.nn.init.zeros_(model.backbone.net.conv_out.weight)
    torch.nn.init.zeros_(model.backbone.net.conv_out.bias)
    given = condition(model)
    drawn = model.sample(given, noise(model), Sampling("euler", steps=2)).video
    expected = given.latents if residual else torch.zeros_like(given.latents)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0.3)


@torch.no_grad()
def test_each_sample_has_its_own_noise_level(model):
    x, given, sigma = noise(model), condition(model), torch.tensor([0.3, 5.0])
    both = Denoiser(model, given)(x, Levels(sigma, sigma.flip(0)))
    for index in range(2):
        alone = Denoiser(model, given)(x, Levels(sigma[index], sigma.flip(0)[index]))
        torch.testing.assert_close(both.video[index], alone.video[index], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both.actions[index], alone.actions[index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sampling", "passes"),
    [
        (Sampling("euler", steps=3), 3),
        (Sampling("heun", steps=3), 5),
        (Sampling("one_pass", steps=3), 1),
        (Sampling("euler", steps=3, guidance=GUIDED), 3),
        (Sampling("one_pass", steps=3, guidance=GUIDED), 1),
        (Sampling("cascade", steps=3, video_steps=2, video_until=1.0), 3),
        (Sampling("cascade", steps=3, video_steps=2, video_until=1.0, guidance=GUIDED), 3),
    ],
    ids=lambda value: getattr(value, "sampler", ""),
)
def test_passes_of_the_video_model(model, sampling, passes):
    counted = []
    hook = model.backbone.register_forward_hook(lambda *_: counted.append(1))
    drawn = model.sample(condition(model), noise(model), sampling)
    hook.remove()
    assert len(counted) == passes
    assert drawn.video.shape == model.blank(2).video.shape
    assert drawn.actions.shape == (2, 8, 2)
    assert not drawn.actions.requires_grad


@pytest.mark.parametrize("guidance", [GUIDED, LinearGuidance(1.0, 1.0)])
def test_deep_blocks_run_at_the_first_of_every_so_many_passes(model, guidance):
    counted = []
    hook = model.backbone.net.mid_block.register_forward_hook(lambda *_: counted.append(1))
    sampling = Sampling(steps=7, reuse=3, guidance=guidance)
    for _ in range(2):
        drawn = model.sample(condition(model), noise(model), sampling)
    hook.remove()
    assert len(counted) == 2 * 3
    whole = model.sample(condition(model), noise(model), replace(sampling, reuse=1))
    assert not torch.equal(drawn.actions, whole.actions)


@torch.no_grad()
def test_guided_in_one_pass_it_denoises_as_in_two(model):
    x, levels, given = noise(model), level(2.0), condition(model)
    both = Denoiser(model, Condition.cat((given, given.unconditional())))
    found = GUIDED.guided(both)(x, levels)
    one, other = Denoiser(model, given)(x, levels), Denoiser(model, given.unconditional())(x, levels)
    expected = GUIDED.combine(one, other)
    torch.testing.assert_close(found.video, expected.video, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.actions, expected.actions, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampling", [Sampling("one_pass", steps=3), Sampling(steps=3, video_steps=1), CASCADE])
def test_actions_are_the_same_whether_the_video_is_wanted_or_not(model, sampling):
    seen = model.sample(condition(model), noise(model), sampling)
    blind = model.sample(condition(model), noise(model), sampling, see=False)
    assert torch.equal(seen.actions, blind.actions)


@pytest.mark.parametrize("see", [True, False])
def test_on_the_way_to_where_the_video_stops_the_head_does_not_run(model, see):
    counted = []
    hook = model.head.register_forward_hook(lambda *_: counted.append(1))
    model.sample(condition(model), noise(model), CASCADE, see=see)
    hook.remove()
    assert len(counted) == CASCADE.passes().head == 3


@torch.no_grad()
def test_a_frozen_denoiser_shows_the_same_and_its_head_heeds_the_noise_level_still(model):
    x, levels = noise(model), level(2.0)
    denoise = Denoiser(model, condition(model))
    frozen = denoise.freeze(x, levels)
    torch.testing.assert_close(frozen(x, levels).video, denoise(x, levels).video)
    torch.testing.assert_close(frozen(x, levels).actions, denoise(x, levels).actions)
    other = noise(model, seed=9)
    later = frozen(other, level(0.5))
    assert torch.equal(later.video, frozen(x, levels).video)
    assert not torch.allclose(later.actions, frozen(other, levels).actions, atol=1e-4)


def test_the_instruction_and_the_picture_decide_what_is_drawn(model):
    sampling = Sampling("euler", steps=2)
    side = model.blank(1).video.shape[-2:]
    codes = draw(1, 2, 6, *side)

    def drawn(codes, instruction):
        return model.sample(model.condition(codes, [instruction]), noise(model, 1), sampling)

    before = drawn(codes, "reach the red disc")
    for other in (drawn(codes, "reach the blue disc"), drawn(codes + 0.5, "reach the red disc")):
        assert not torch.allclose(before.video, other.video, atol=1e-5)
        assert not torch.allclose(before.actions, other.actions, atol=1e-6)


def test_without_a_normaliser_it_imagines_and_says_that_it_cannot_act():
    model = small_model(None)
    for sampler in ("euler", "one_pass"):
        drawn = model.sample(condition(model), noise(model), Sampling(sampler, steps=2))
        assert drawn.video.isfinite().all()
        assert drawn.actions.shape == (2, 8, 0)
    with pytest.raises(UserError, match="cannot act"):
        model.denoise_actions(torch.zeros(2, 8, 2), torch.ones(2), torch.zeros(2, 8), condition(model))


@pytest.mark.parametrize("through", [0.0, 0.5, 1.0])
def test_the_action_loss_reaches_the_video_model_only_if_features_are_not_detached(through):
    model = small_model()
    training = replace(TRAINING, stage=replace(JOINT, through=through))
    clips = batch(model)
    Objective(model, training)(clips, draw_noise(model, training, clips, generator_of(0, 0))).mean_actions.backward()
    reached = {
        part: any(p.grad is not None and p.grad.any() for p in getattr(model, part).parameters())
        for part in ("text", "backbone", "head")
    }
    assert reached == {"text": bool(through), "backbone": bool(through), "head": True}


@pytest.mark.parametrize(
    ("stage", "still"),
    [("action", ("text", "backbone", "latents")), ("video", ("head", "latents")), ("joint", ("latents",))],
)
def test_a_stage_changes_what_it_trains_and_not_a_bit_more(stage, still):
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training = replace(TRAINING, stage=replace(STAGES[stage], through=1.0), weight_decay=0.1)
    objective = Objective(model, training)
    optimizer = torch.optim.AdamW(objective.parameter_groups(), weight_decay=0.1)
    for step in range(3):
        clips = batch(model)
        total(objective(clips, draw_noise(model, training, clips, generator_of(0, step)))).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"text", "backbone", "head", "latents"} - set(still)


def test_each_action_width_gets_a_head_of_its_own():
    for width in (1, 7):
        model = small_model(Normalizer((-1.0,) * width, (1.0,) * width))
        assert model.action_width == width
        assert model.sample(condition(model), noise(model), MODEL.sampling).actions.shape == (2, 8, width)


def test_the_head_learns_relative_actions_of_their_own_width():
    model = relative_model()
    assert model.action_width == 10
    assert str(model.config.learned_layout) == "relative_position relative_rotation_6d gripper[-1,1]"
    assert str(replace(model.config, relative=False).learned_layout) == ARM["action_layout"]
    assert small_model().config.learned_layout is None


def test_video_alone_may_be_trained_before_its_actions_have_a_layout():
    model = small_model(None, relative=True)
    assert model.action_width == 0
    opened = CheckpointPolicy(model, model.config.sampling)
    assert (opened.spec.state_layout, opened.origin) == ("", None)
    assert opened.plan([observation()], [0], True)[0].imagined


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_layout": "other:3"}, "2 wide, but their layout 'other:3' has 3"),
        ({"action_layout": "othr:2"}, "'othr:2'"),
        ({"relative": True}, "need the action layout"),
        ({"relative": True, "action_layout": "other:2"}, "need the state layout"),
        (
            {"relative": True, "action_layout": "other:2", "state_layout": "position quaternion"},
            "the action is 'other:2'",
        ),
        (ARM, "2 wide, but their layout 'relative_position relative_rotation_6d gripper.*' has 10"),
    ],
)
def test_an_action_layout_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        small_model(**changes)


@torch.no_grad()
def test_offloaded_it_denoises_the_same_with_its_weights_parked():
    model, parked = small_model(), small_model()
    parked.offload("cpu")
    assert {p.device.type for part in (parked.backbone, parked.head) for p in part.parameters()} == {"meta"}
    assert parked.device.type == "cpu"
    plans = [CheckpointPolicy(m, m.config.sampling).plan([observation()], [3], True)[0] for m in (model, parked)]
    np.testing.assert_array_equal(plans[0].actions, plans[1].actions)
    np.testing.assert_array_equal(plans[0].imagined["top"], plans[1].imagined["top"])
