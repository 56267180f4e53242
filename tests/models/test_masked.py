"""A masked model heeds what it is shown, and nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tests.models.examples.masked import example
from tests.small import NORMALIZER, TRAINING, batch, fitted

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.clocks import INVERSE_DYNAMICS
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.errors import UserError
from videopolicy.models.masked import Config, MaskedModel
from videopolicy.models.sampling import Sampling
from videopolicy.training import objective as objectives
from videopolicy.training.noise import StepNoise, draw_noise, generator_of
from videopolicy.training.objective import Counted, Objective, total
from videopolicy.training.stages import ACTION, ATTACHED, JOINT

WORDS = ["reach the red disc", "press"]
NEW = torch.Generator


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "residual"])
def model(request) -> MaskedModel:
    """Two views and a pad."""
    return fitted(replace(example, views=("top", "close"), pad=1, residual=request.param))


def noise(model, clips=2, seed=0):
    return Joint.randn_like(model.blank(clips), NEW().manual_seed(seed))


def condition(model, clips=2, seed=5):
    side = model.blank(1).video.shape[-1]
    codes = torch.randn((clips, len(model.config.views), 6, side, side), generator=NEW().manual_seed(seed))
    return model.condition(codes, WORDS[:clips])


def halves(model, clips=2):
    """The upper half of every picture."""
    side = model.blank(1).video.shape[-1]
    return (torch.arange(side) < side // 2)[None, :, None].expand(clips, side, side)


def all_of(clips, value):
    return torch.full((clips,), value)


def answer(model, given, seed=0):
    with torch.no_grad():
        return model.denoise(noise(model, seed=seed), Levels(torch.tensor([2.0, 0.5]), torch.tensor([1.0, 3.0])), given)


def same(one, other):
    return torch.equal(one.video, other.video), torch.equal(one.actions, other.actions)


def knowing(model, clean, given=None, actions=False, image=True, pixels=None):
    pixels = halves(model) if pixels is None else pixels
    given = condition(model) if given is None else given
    return model.knowing(given, clean, pixels, all_of(2, actions), all_of(2, image))


def test_hidden_pixels_are_not_heeded_and_shown_ones_are_and_come_back(model):
    clean, shown = noise(model, seed=1), halves(model)[:, None, None]
    found = answer(model, knowing(model, clean))
    assert torch.equal(found.video.masked_select(shown), clean.video.masked_select(shown))
    hidden = replace(clean, video=torch.where(shown, clean.video, torch.nan))
    assert same(found, answer(model, knowing(model, hidden))) == (True, True)
    other = replace(clean, video=torch.where(shown, clean.video + 1, clean.video))
    changed = answer(model, knowing(model, other))
    assert not torch.equal(found.actions, changed.actions)
    assert not torch.equal(found.video.masked_select(~shown), changed.video.masked_select(~shown))


def test_hidden_actions_are_not_heeded_and_each_shown_one_is(model):
    clean = noise(model, seed=1)
    hidden = answer(model, knowing(model, clean))
    lost = replace(clean, actions=torch.full_like(clean.actions, torch.nan))
    assert same(hidden, answer(model, knowing(model, lost))) == (True, True)
    found = answer(model, knowing(model, clean, actions=True))
    assert not any(same(hidden, found))
    for step in range(clean.actions.shape[1]):
        other = clean.actions.clone()
        other[:, step] += 1
        assert not any(same(found, answer(model, knowing(model, replace(clean, actions=other), actions=True))))


def test_actions_of_a_frame_enter_at_that_frame_of_every_view_and_not_at_the_pad(model):
    clean = noise(model, seed=1)
    moves = knowing(model, clean, actions=True).known.moves
    codes = model.action_encoder(clean.actions.unflatten(1, (2, 4)).flatten(2))
    assert torch.equal(moves[:, 0], torch.zeros_like(moves[:, 0]))
    for view in range(2):
        torch.testing.assert_close(moves[:, 1 + 2 * view : 3 + 2 * view, :, 0, 0], codes)


def test_a_hidden_image_is_not_heeded_by_the_actions_and_the_instruction_still_is(model):
    clean, all_shown = noise(model, seed=1), torch.ones_like(halves(model))
    inverse = {"image": False, "pixels": all_shown}
    found = answer(model, knowing(model, clean, **inverse))
    assert same(found, answer(model, knowing(model, clean, condition(model, seed=6), **inverse))) == (True, True)
    assert not torch.equal(found.actions, answer(model, knowing(model, clean, pixels=all_shown)).actions)
    said = replace(condition(model), text=model.text(WORDS[::-1]))
    assert not torch.equal(found.actions, answer(model, knowing(model, clean, said, **inverse)).actions)


def test_a_hidden_image_does_not_show_in_the_pad(model):
    """The pad of the truth holds copies of it."""
    clean, inverse = noise(model, seed=1), {"image": False, "pixels": torch.ones_like(halves(model))}
    other = Joint(clean.video.clone(), clean.actions)
    other.video[:, : model.config.pad] += 1
    found, moved = (answer(model, knowing(model, truth, **inverse)) for truth in (clean, other))
    assert torch.equal(found.actions, moved.actions)


def test_a_given_video_is_refused_as_nothing_is_read_out_of_it(model):
    with pytest.raises(UserError, match="reads no actions out of a given video"):
        model.predict(condition(model), noise(model), Sampling(steps=2), INVERSE_DYNAMICS, noise(model))


def test_no_noise_of_the_video_reaches_the_actions(model):
    given, levels = condition(model), Levels.same(torch.ones(2))
    one, other = noise(model), replace(noise(model), video=noise(model, seed=9).video)
    with torch.no_grad():
        found = model.denoise(one, levels, given)
        later = model.denoise(other, replace(levels, video=torch.full((2,), 7.0)), given)
    assert torch.equal(found.actions, later.actions) and not torch.equal(found.video, later.video)


def test_one_pass_of_the_backbone_draws_what_a_pass_for_every_step_does(model):
    passes = []
    hook = model.backbone.inner.register_forward_hook(lambda *_: passes.append(1))
    once = model.sample(condition(model), noise(model), Sampling("one_pass", steps=4))
    assert len(passes) == 1
    every = model.sample(condition(model), noise(model), Sampling("euler", steps=4))
    hook.remove()
    assert len(passes) == 1 + 4
    torch.testing.assert_close(once.video, every.video)
    torch.testing.assert_close(once.actions, every.actions)


def test_acting_skips_the_head_of_the_video_and_changes_no_action(model):
    drawn = []
    hook = model.backbone.pixels.register_forward_hook(lambda *_: drawn.append(1))
    sampling = Sampling("one_pass", steps=3)
    blind = model.sample(condition(model), noise(model), sampling, see=False)
    assert not drawn
    seen = model.sample(condition(model), noise(model), sampling)
    hook.remove()
    assert len(drawn) == 3 and torch.equal(blind.actions, seen.actions)


@torch.no_grad()
def test_conditions_with_known_parts_join_and_change_as_one(model):
    clean = noise(model, seed=1)
    given = knowing(model, clean, actions=True)
    twice = Condition.cat((given, given.map(torch.clone)))
    levels = Levels.same(torch.ones(4))
    found = model.denoise(Joint.cat((noise(model), noise(model))), levels, twice)
    alone = model.denoise(noise(model), levels[:2], given)
    torch.testing.assert_close(found.video[2:], alone.video, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.actions[:2], alone.actions, rtol=1e-4, atol=1e-5)


def objective(model, stage=ATTACHED):
    return Objective(model, replace(TRAINING, stage=stage))


def lesson(loss, clips, seed=0) -> StepNoise:
    return draw_noise(loss.model, loss.training_config, clips, generator_of(0, seed))


def reached(loss, clips, seed=0):
    """The parts that the gradient of a batch moves."""
    loss.model.zero_grad()
    total(loss(clips, lesson(loss, clips, seed))).backward()
    moved = {name for name, weight in loss.model.named_parameters() if weight.grad is not None and weight.grad.any()}
    parts = ("head.", "action_encoder.", "backbone.inner.", "backbone.pixels.", "backbone.holes.", "text.")
    return {part for part in parts if any(name.startswith(part) for name in moved)}


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        ("video", {"backbone.inner.", "backbone.pixels.", "backbone.holes.", "text."}),
        ("forward", {"backbone.inner.", "backbone.pixels.", "backbone.holes.", "text.", "action_encoder."}),
        ("policy", {"backbone.inner.", "backbone.holes.", "text.", "head."}),
        ("inverse", {"backbone.inner.", "text.", "head."}),
        ("full", {"backbone.inner.", "backbone.pixels.", "backbone.holes.", "text.", "head."}),
    ],
)
def test_each_mode_trains_what_it_uses(mode, parts):
    loss = objective(fitted(replace(example, training_modes=(mode,))))
    assert reached(loss, batch(loss.model)) == parts


def test_detached_the_actions_train_the_head_alone():
    loss = objective(fitted(replace(example, training_modes=("policy",))), JOINT)
    assert reached(loss, batch(loss.model)) == {"head."}


def test_among_several_processes_every_weight_is_in_the_graph_whatever_is_drawn(monkeypatch):
    """They wait for one another at every weight."""
    monkeypatch.setattr(objectives, "process_state", lambda: SimpleNamespace(num_processes=2))
    for name in ("video", "inverse"):
        loss = objective(fitted(replace(example, training_modes=(name,))))
        total(loss(batch(loss.model), lesson(loss, batch(loss.model)))).backward()
        assert not [key for key, weight in loss.named_parameters() if weight.requires_grad and weight.grad is None]


def test_actions_that_a_clip_does_not_have_leave_no_trace_in_the_gradient():
    loss = objective(fitted(replace(example, training_modes=("forward", "full"))))
    gradients = []
    for value in (0, 5):
        clips = batch(loss.model, has_actions=False)
        clips.actions[:] = value
        loss.zero_grad()
        total(loss(clips, lesson(loss, clips))).backward()
        gradients.append([weight.grad for weight in loss.parameters() if weight.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_batch_dealt_out_learns_what_it_does_whole():
    loss = objective(fitted(example))
    clips = batch(loss.model)
    drawn, of = lesson(loss, clips), Counted(6, 24)
    whole = loss(clips, drawn)
    parts = []
    for row in range(3):
        one = replace(clips, **{name: getattr(clips, name)[row : row + 1] for name in ("current", "future", "actions")})
        one = replace(one, has_actions=clips.has_actions[row : row + 1], instructions=[clips.instructions[row]])
        parts.append(loss(one, drawn.rows(row, row + 1)))
    torch.testing.assert_close(sum(total(part, of) for part in parts), total(whole, of))


def test_a_few_steps_of_all_modes_lower_both_losses():
    model = fitted(example)
    training = replace(TRAINING, stage=ATTACHED)
    loss, clips = Objective(model, training), batch(model)
    optimizer = torch.optim.AdamW(loss.parameter_groups(), lr=3e-3)

    def measured():
        levels, normal = Levels.same(torch.tensor(2.0)), noise(model, 3, seed=7)
        losses = loss.losses_at(clips, levels, normal)
        return losses.mean_video.item(), losses.mean_actions.item()

    before = measured()
    for step in range(60):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3
        total(loss(clips, lesson(loss, clips, step))).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = measured()
    assert after[0] < 0.8 * before[0] and after[1] < 0.8 * before[1], (before, after)


def test_a_stage_of_the_head_leaves_the_backbone_as_it_is():
    model = fitted(example)
    loss = Objective(model, replace(TRAINING, stage=ACTION))
    assert reached(loss, batch(model)) == {"head."}


def test_without_actions_it_imagines_in_one_pass_and_becomes_a_policy_that_knows_its_video():
    video, acting = fitted(example, None), fitted(example, seed=1)
    assert video.sample(condition(video), noise(video), Sampling("one_pass", steps=2)).video.isfinite().all()
    missing, unexpected = acting.load_state_dict(video.state_dict(), strict=False)
    assert not unexpected and all(name.startswith(("head.", "action_encoder.")) for name in missing)


@torch.no_grad()
def test_offloaded_it_denoises_the_same():
    model, parked = fitted(example), fitted(example)
    given, levels = condition(model), Levels.same(torch.ones(2))
    parked.offload("cpu")
    assert {weight.device.type for weight in parked.backbone.parameters()} == {"meta"}
    assert all(same(model.denoise(noise(model), levels, given), parked.denoise(noise(model), levels, given)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training_modes": ("policy", "dream")}, "no training mode 'dream'"),
        ({"training_modes": ()}, "one or more of video, forward, policy, inverse, full"),
        ({"training_modes": ("full", "full")}, "each once"),
        ({"move_channels": 0}, "move_channels"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        replace(example, **changes)


def test_a_chunk_that_frames_cannot_share_is_refused():
    odd = replace(example, window=replace(example.window, frames=3))
    with pytest.raises(UserError, match="8 of them do not divide among 3 frames"):
        Config.build(odd, NORMALIZER)
