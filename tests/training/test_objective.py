from dataclasses import fields, replace

import pytest
import torch
from tests.small import CLONING, TRAINING, batch, policy

from videopolicy.diffusion.edm import LogNormal
from videopolicy.diffusion.loss import Losses
from videopolicy.errors import UserError
from videopolicy.latents import svd
from videopolicy.training.noise import draw
from videopolicy.training.objective import Counted, Objective, total

STAGES = ("video", "action", "joint", "end_to_end")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model():
    return policy()


def objective(model, **changes):
    return Objective(model, replace(TRAINING, **changes))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("normalizer", [True, False])
def test_the_loss_is_finite_and_has_a_value_for_every_frame_and_step(stage, normalizer):
    model = policy() if normalizer else policy(None)
    if stage != "video" and not normalizer:
        with pytest.raises(UserError, match=f"stage '{stage}' needs actions"):
            objective(model, stage=stage)
        return
    losses = objective(model, stage=stage)(batch(model), generator())
    assert losses.video.shape == (3, 2) and losses.actions.shape == (3, 8)
    assert torch.isfinite(total(losses, stage))


def test_the_generator_alone_decides_the_noise(model):
    loss = objective(model)
    first, again, other = (loss(batch(model), generator(seed)).video for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_what_is_minimised():
    model = policy()
    losses = objective(model)(batch(model), generator())
    video, actions = losses.video.mean(), losses.actions.mean()
    torch.testing.assert_close(total(losses, "video"), video)
    torch.testing.assert_close(total(losses, "action"), actions)
    torch.testing.assert_close(total(losses, "joint"), video + actions)
    torch.testing.assert_close(total(losses, "end_to_end"), actions)


def test_clips_without_actions_do_not_count_whatever_they_hold(model):
    mixed, other = batch(model), batch(model)
    mixed.has_actions[1] = other.has_actions[1] = False
    other.actions[1] = 5.0
    loss = objective(model, detach_features=False)
    gradients = []
    for clips in (mixed, other):
        losses = loss(clips, generator())
        torch.testing.assert_close(losses.mean_actions, losses.actions[[0, 2]].mean())
        gradients.append(torch.autograd.grad(total(losses, "joint"), list(model.head.parameters())))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
    assert loss(batch(model, has_actions=False), generator()).mean_actions == 0


def test_checkpointed_gradients_are_the_same_and_keep_less():
    gradients, kept = [], []
    for recompute in (False, True):
        model, sizes = policy(), []
        loss = objective(model, checkpoint_gradients=recompute, detach_features=False)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            losses = loss(batch(model), generator())
        total(losses, "joint").backward()
        gradients.append([parameter.grad for parameter in model.backbone.parameters()])
        kept.append(sum(sizes))
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
    assert kept[1] < 0.8 * kept[0]


@torch.no_grad()
def test_dropout_hides_the_text_or_the_picture_of_whole_clips(model):
    shown = []
    hook = model.backbone.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[1]))
    for changes in ({"text_dropout": 0.5}, {"image_dropout": 0.5, "text_dropout": 0.0}):
        loss = objective(model, conditioning_noise=0.0, **changes)
        for seed in range(20):
            loss(batch(model), generator(seed))
    hook.remove()
    for part, conditions in (("text", shown[:20]), ("latents", shown[20:])):
        hidden = torch.stack([~getattr(condition, part).flatten(2).any(2) for condition in conditions])
        assert (hidden.all(2) == hidden.any(2)).all(), "frames of one clip differ"
        assert 0.3 < hidden.float().mean() < 0.7
    whole = objective(model, text_dropout=0.0, conditioning_noise=0.0).condition(batch(model))
    assert not whole.text.flatten(2).any(2).logical_not().any()
    assert not any((~condition.latents.flatten(2).any(2)).any() for condition in shown[:20])
    assert not any((~condition.text.flatten(2).any(2)).any() for condition in shown[20:])


@torch.no_grad()
def test_dropout_by_frame_hides_frames_one_by_one(model):
    shown = []
    hook = model.backbone.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[1]))
    loss = objective(model, dropout_by_frame=True, text_dropout=0.5, image_dropout=0.5, conditioning_noise=0.0)
    for seed in range(20):
        loss(batch(model), generator(seed))
    hook.remove()
    hidden = {part: torch.stack([~getattr(c, part).flatten(2).any(2) for c in shown]) for part in ("text", "latents")}
    for marks in hidden.values():
        assert (marks.any(2) & ~marks.all(2)).any(), "frames of one clip always share their fate"
        assert 0.3 < marks.float().mean() < 0.7
    assert (hidden["text"] != hidden["latents"]).any()


@torch.no_grad()
def test_the_current_image_is_disturbed_as_much_as_asked(model):
    shown = []
    hook = model.backbone.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[1].latents))
    loss, clips = objective(model, conditioning_noise=0.3), batch(model)
    for seed in range(10):
        loss(clips, generator(seed))
    hook.remove()
    noise = torch.stack(shown) - loss.condition(clips).latents
    assert 0.28 < noise.std() < 0.32
    assert noise.mean().abs() < 0.03
    torch.testing.assert_close(noise[:, :, 0], noise[:, :, 1], msg="frames of one view have noise of their own")


@torch.no_grad()
def test_video_and_actions_are_shown_at_one_noise_level(model):
    """Of much noise, both are scaled to unit variance; of none, the network is shown the clean values."""
    shown = {}
    clips = batch(model)
    hooks = [
        model.backbone.register_forward_pre_hook(lambda _m, inputs: shown.update(video=inputs[0], noise=inputs[2])),
        model.head.register_forward_pre_hook(lambda _m, inputs: shown.update(actions=inputs[0])),
    ]
    clean = objective(model).clean(clips, None)
    for mean in (8.0, -8.0):
        objective(model, noise=LogNormal(mean, 0.0))(clips, generator())
        torch.testing.assert_close(shown["noise"], torch.full((3,), mean / 4))
        for part in ("video", "actions"):
            likeness = torch.corrcoef(torch.stack((shown[part].flatten(), getattr(clean, part).flatten())))[0, 1]
            assert likeness > 0.99 if mean < 0 else likeness.abs() < 0.3
            assert mean < 0 or 0.8 < shown[part].std() < 1.2
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def test_flat_frames_of_the_truth_are_behind_the_pad():
    model = policy(views=("top", "close"), pad=2)
    clips = batch(model)
    clean = objective(model).clean(clips, None)
    assert clean.video.shape[1] == 6
    for frame in range(2):
        assert torch.equal(clean.video[:, frame], torch.from_numpy(clips.current[:, 0]))
    assert torch.equal(model.unflatten(clean.video), torch.from_numpy(clips.future))


@pytest.mark.parametrize(
    ("stage", "rates"), [("video", [1.0]), ("action", [2.0]), ("joint", [1.0, 2.0]), ("end_to_end", [1.0, 2.0])]
)
def test_each_part_learns_at_its_own_rate(model, stage, rates):
    groups = objective(model, stage=stage, rate=1.0, head_rate=2.0).parameter_groups()
    assert [group["lr"] for group in groups] == [group["peak"] for group in groups] == rates
    counted = sum(parameter.numel() for group in groups for parameter in group["params"])
    assert counted == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_the_totals_of_parts_add_up_to_that_of_the_whole(model, stage, pooled):
    clips = batch(model)
    clips.has_actions[1] = False
    losses = objective(model)(clips, generator())
    parts = [
        Losses(losses.video[rows], losses.actions[rows], losses.has_actions[rows], losses.sigma[rows])
        for rows in (slice(0, 1), slice(1, 3))
    ]
    added = sum(total(part, stage, Counted(3, 2), pooled) for part in parts)
    torch.testing.assert_close(added, total(losses, stage, pooled=pooled))
    if pooled and stage == "joint":
        torch.testing.assert_close(added, losses.mean)


def test_what_a_clip_is_shown_does_not_depend_on_the_clips_beside_it(model):
    clips, training = batch(model), replace(TRAINING, image_dropout=0.5, text_dropout=0.5)
    draws = draw(model, training, 3, clips.actions.shape[2], generator())
    loss = objective(model, image_dropout=0.5, text_dropout=0.5)
    whole, alone = loss(clips, draws), loss(take(clips, 1), draws.rows(1, 2))
    torch.testing.assert_close(whole.video[1:2], alone.video)
    torch.testing.assert_close(whole.actions[1:2], alone.actions)


def test_latents_with_a_spread_are_drawn_for_every_clip_by_itself():
    small = svd.Config(channels=(32, 32))
    model = policy(latents=small)
    clips = batch(model)
    loss, seeds = objective(model), torch.tensor([5, 6, 7])
    drawn, other = loss.clean(clips, seeds).video, loss.clean(clips, seeds + 1).video
    torch.testing.assert_close(drawn[1:2], loss.clean(take(clips, 1), seeds[1:2]).video)
    assert not torch.allclose(drawn, other) and not torch.allclose(drawn, loss.clean(clips, None).video)


def take(clips, index):
    rows = slice(index, index + 1)
    return type(clips)(**{field.name: getattr(clips, field.name)[rows] for field in fields(clips)})


@pytest.mark.parametrize("changes", [{}, CLONING], ids=["video model", "encoder"])
def test_end_to_end_every_weight_that_can_hears_of_the_actions_and_nothing_of_the_video(changes):
    model, gradients = policy(**changes), []
    loss, one, other = objective(model, stage="end_to_end"), batch(model), batch(model)
    other.future[:] += 1
    for clips in (one, other):
        model.zero_grad()
        losses = loss(clips, draw(model, replace(TRAINING, text_dropout=0.0), 3, 2, generator()))
        total(losses, "end_to_end").backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    silent = {name for name, gradient in gradients[0].items() if gradient is None or not gradient.any()}
    # Of a video model, what lies behind its last tap; distributed training must hear of that, too.
    assert not silent if changes else all(name.startswith("backbone.net.conv_") for name in silent)
    assert all(gradient is not None for gradient in gradients[0].values())
    if changes:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@pytest.mark.parametrize("stage", ["video", "action", "joint"])
def test_other_stages_are_not_for_a_model_without_video(stage):
    with pytest.raises(UserError, match=f"draws no video, so stage '{stage}' is not for it; use --stage end_to_end"):
        objective(policy(**CLONING), stage=stage)
