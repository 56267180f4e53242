from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.models.examples.masked import example as masked
from tests.small import CLONING, TRAINING, batch, fitted, small_model

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.loss import Counts, Losses
from videopolicy.diffusion.noise import independent, joint, pinned
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.errors import UserError
from videopolicy.latents import svd
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Counted, Objective, total
from videopolicy.training.stages import STAGES

# What stage "distill" learns, tests/training/test_distillation.py shows.
OF_CLIPS = [name for name, stage in STAGES.items() if not stage.distills]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model():
    return small_model()


def objective(model, stage="joint", **changes):
    return Objective(model, replace(TRAINING, stage=STAGES[stage], **changes))


def loss_of(loss, clips, seed=0):
    """The losses of these clips with the noise of a seed."""
    return loss(clips, draw_noise(loss.model, loss.training_config, clips, generator(seed)))


@pytest.mark.parametrize("stage", OF_CLIPS)
@pytest.mark.parametrize("normalizer", [True, False])
def test_the_loss_is_finite_and_has_a_value_for_every_frame_and_step(stage, normalizer):
    model = small_model() if normalizer else small_model(None)
    if stage != "video" and not normalizer:
        with pytest.raises(UserError, match=f"stage '{stage}' needs actions"):
            objective(model, stage=stage)
        return
    losses = loss_of(objective(model, stage=stage), batch(model))
    assert losses.video.shape == (3, 2) and losses.actions.shape == (3, 8)
    assert torch.isfinite(total(losses))


def test_the_generator_alone_decides_the_noise(model):
    loss = objective(model)
    first, again, other = (loss_of(loss, batch(model), seed).video for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_what_is_minimised():
    model = small_model()
    found = {stage: loss_of(objective(model, stage=stage), batch(model)) for stage in OF_CLIPS}
    video, actions = found["joint"].video.mean(), found["joint"].actions.mean()
    expected = {"video": video, "action": actions, "joint": video + actions, "end_to_end": actions}
    expected["attached"] = expected["joint"]
    for stage, losses in found.items():
        torch.testing.assert_close(total(losses), expected[stage])


def test_clips_without_actions_do_not_count_whatever_they_hold(model):
    mixed, other = batch(model), batch(model)
    mixed.has_actions[1] = other.has_actions[1] = False
    other.actions[1] = 5.0
    loss = objective(model, stage="attached")
    gradients = []
    for clips in (mixed, other):
        losses = loss_of(loss, clips)
        torch.testing.assert_close(losses.mean_actions, losses.actions[[0, 2]].mean())
        gradients.append(torch.autograd.grad(total(losses), list(model.head.parameters())))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
    assert loss_of(loss, batch(model, has_actions=False)).mean_actions == 0


def test_checkpointed_gradients_are_the_same_and_keep_less():
    gradients, kept = [], []
    for recompute in (False, True):
        model, sizes = small_model(), []
        loss = objective(model, stage="attached", gradient_checkpointing=recompute)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            losses = loss_of(loss, batch(model))
        total(losses).backward()
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
            loss_of(loss, batch(model), seed)
    hook.remove()
    texts = torch.stack([~condition.text.flatten(1).any(1) for condition in shown])
    images = torch.stack([~condition.latents.flatten(2).any(2) for condition in shown])
    assert all(condition.without_text is None for condition in shown)
    assert (images.all(2) == images.any(2)).all(), "frames of one clip differ"
    assert 0.3 < texts[:20].float().mean() < 0.7 and not images[:20].any()
    assert 0.3 < images[20:].float().mean() < 0.7 and not texts[20:].any()


@torch.no_grad()
def test_dropout_by_frame_hides_frames_one_by_one(model):
    shown = []
    hook = model.backbone.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[1]))
    loss = objective(model, dropout_by_frame=True, text_dropout=0.5, image_dropout=0.5, conditioning_noise=0.0)
    for seed in range(20):
        loss_of(loss, batch(model), seed)
    hook.remove()
    hidden = {"latents": torch.stack([~condition.latents.flatten(2).any(2) for condition in shown])}
    hidden["text"] = torch.stack([condition.without_text for condition in shown])
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
        loss_of(loss, clips, seed)
    hook.remove()
    noise = torch.stack(shown) - loss.condition(clips).latents
    assert 0.28 < noise.std() < 0.32
    assert noise.mean().abs() < 0.03
    torch.testing.assert_close(noise[:, :, 0], noise[:, :, 1], msg="frames of one view have noise of their own")


@torch.no_grad()
@pytest.mark.parametrize(("video", "actions"), [(8.0, 8.0), (-8.0, -8.0), (8.0, -8.0), (-8.0, 8.0)])
def test_each_part_is_shown_at_the_level_that_the_law_draws(model, video, actions):
    """Of much noise, a part is scaled to unit variance; of none, the network is shown the clean values."""
    shown = {}
    clips = batch(model)
    hooks = [
        model.backbone.register_forward_pre_hook(lambda _m, inputs: shown.update(video=inputs[0], noise=inputs[2])),
        model.head.register_forward_pre_hook(lambda _m, inputs: shown.update(actions=inputs[0])),
    ]
    clean = objective(model).clean(clips, None)
    law = independent.Config(LogNormal(video, 0.0), LogNormal(actions, 0.0))
    laws = [law, joint.Config(LogNormal(video, 0.0))] if video == actions else [law]
    for law in laws:
        losses = loss_of(objective(model, noise=law), clips)
        torch.testing.assert_close(shown["noise"], torch.full((3,), video / 4))
        torch.testing.assert_close(losses.levels.actions.log(), torch.full((3,), actions))
        for part, mean in (("video", video), ("actions", actions)):
            likeness = torch.corrcoef(torch.stack((shown[part].flatten(), getattr(clean, part).flatten())))[0, 1]
            assert likeness > 0.99 if mean < 0 else likeness.abs() < 0.5
            assert mean < 0 or 0.7 < shown[part].std() < 1.3
    for hook in hooks:
        hook.remove()


@torch.no_grad()
@pytest.mark.parametrize(
    ("stage", "passes"), [("joint", [-8.0 / 4, 6.0 / 4]), ("action", [6.0 / 4]), ("video", [-8.0 / 4])]
)
def test_pinned_the_head_reads_a_pass_of_pure_noise_and_the_video_has_its_own(model, stage, passes):
    law = pinned.Config(sigma=float(torch.tensor(6.0).exp()), video=LogNormal(-8.0, 0.0), actions=LogNormal(0.0, 0.0))
    shown, read = [], []
    hooks = [
        model.backbone.net.register_forward_pre_hook(lambda _m, inputs: shown.append(inputs[1])),
        model.head.register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0])),
    ]
    losses = loss_of(objective(model, stage=stage, noise=law), batch(model))
    for hook in hooks:
        hook.remove()
    assert [float(noise[0]) for noise in shown] == pytest.approx(passes, rel=1e-5)
    if stage == "video":
        return
    assert losses.levels.actions.tolist() == [1.0] * 3
    # The features that reach the actions are those of the last pass, whatever the video shows of itself.
    other = batch(model)
    other.future[:] += 100 * (stage == "joint")
    again = loss_of(objective(model, stage=stage, noise=replace(law, sigma=1e6)), other)
    nothing = loss_of(objective(model, stage=stage, noise=replace(law, sigma=1e6)), batch(model))
    torch.testing.assert_close(again.actions, nothing.actions, rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_flat_frames_of_the_truth_are_behind_the_pad():
    model = small_model(views=("top", "close"), pad=2)
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
    groups = objective(model, stage=stage, lr=1.0, head_lr=2.0).parameter_groups()
    assert [group["lr"] for group in groups] == [group["peak"] for group in groups] == rates
    counted = sum(parameter.numel() for group in groups for parameter in group["params"])
    assert counted == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("pool_losses", [False, True])
@pytest.mark.parametrize("stage", OF_CLIPS)
def test_the_totals_of_parts_add_up_to_that_of_the_whole(model, stage, pool_losses):
    clips = batch(model)
    clips.has_actions[1] = False
    losses = loss_of(objective(model, stage=stage), clips)
    counts, levels = losses.counts, losses.levels
    parts = [
        Losses(
            losses.video[rows],
            losses.actions[rows],
            Counts(counts.video[rows], counts.actions[rows]),
            Levels(levels.video[rows], levels.actions[rows]),
        )
        for rows in (slice(0, 1), slice(1, 3))
    ]
    added = sum(total(part, Counted.of(counts), pool_losses) for part in parts)
    torch.testing.assert_close(added, total(losses, pool_losses=pool_losses))
    if pool_losses and stage == "joint":
        everything = torch.cat([losses.video.flatten(), losses.actions[[0, 2]].flatten()])
        torch.testing.assert_close(added, everything.mean())


def test_what_a_clip_is_shown_does_not_depend_on_the_clips_beside_it(model):
    clips, loss = batch(model), objective(model, image_dropout=0.5, text_dropout=0.5)
    noise = draw_noise(model, loss.training_config, clips, generator())
    whole, alone = loss(clips, noise), loss(take(clips, 1), noise.rows(1, 2))
    torch.testing.assert_close(whole.video[1:2], alone.video)
    torch.testing.assert_close(whole.actions[1:2], alone.actions)


def test_latents_with_a_spread_are_drawn_for_every_clip_by_itself():
    small = svd.Config(channels=(32, 32))
    model = small_model(latents=small)
    clips = batch(model)
    loss, seeds = objective(model), torch.tensor([5, 6, 7])
    drawn, other = loss.clean(clips, seeds).video, loss.clean(clips, seeds + 1).video
    torch.testing.assert_close(drawn[1:2], loss.clean(take(clips, 1), seeds[1:2]).video)
    assert not torch.allclose(drawn, other) and not torch.allclose(drawn, loss.clean(clips, None).video)


@pytest.mark.parametrize("stage", ["joint", "attached"])
@pytest.mark.parametrize("reads", ["future", "present"])
def test_video_that_does_not_count_costs_no_pass_and_changes_nothing_else(stage, reads):
    """The gradient of a batch whose video counts in some clips is that of masking the others'."""
    model = small_model(reads=reads)
    clips, gradients = replace(batch(model), has_actions=np.array([True, False, True])), []
    some = objective(model, stage, video_share=0.0)
    noise = draw_noise(model, some.training_config, clips, generator())
    assert noise.counts.video.any(1).tolist() == [False, True, False]
    seen = []
    hook = model.backbone.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    for wanted in (some._wanted, lambda counts: torch.ones(3, dtype=torch.bool)):
        some._wanted = wanted
        model.zero_grad()
        total(some(clips, noise)).backward()
        gradients.append({name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad})
    hook.remove()
    assert seen == [1, 3]
    # Sums of one clip and of three are taken in other orders: 1.05e-5 was seen beside a bound of 1e-5.
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1.3e-6, atol=2e-5)


def test_the_video_of_clips_with_actions_is_learnt_in_a_share_of_the_steps(model):
    training = replace(TRAINING, video_share=0.25)
    steps = [draw_noise(model, training, batch(model), generator(seed)).counts for seed in range(400)]
    assert all(step.video.all() or not step.video.any() for step in steps) and all(step.actions.all() for step in steps)
    assert 70 < sum(bool(step.video.any()) for step in steps) < 130


@pytest.mark.parametrize("name", ["pinned", "masked"])
def test_a_spared_step_leaves_the_video_model_out_whatever_the_law_and_the_model(model, name):
    """A gradient of zeros would still let momentum and weight decay move it."""
    built = model if name == "pinned" else fitted(replace(masked, training_modes=("policy", "full")))
    law = {"noise": pinned.Config(80.0)} if name == "pinned" else {}
    loss = objective(built, "joint", video_share=0.0, **law)
    built.zero_grad()
    total(loss_of(loss, batch(built))).backward()
    video = [weight.grad for weight in built.backbone.parameters()]
    assert all(gradient is None for gradient in video)
    assert any(weight.grad is not None and weight.grad.any() for weight in built.head.parameters())


def test_where_video_is_spared_what_has_no_actions_counts_for_no_more(model):
    """A step's loss of video is divided by all frames, as it is where none is spared."""
    clips = replace(batch(model), has_actions=np.array([True, False, True]))
    noise = draw_noise(model, replace(TRAINING, video_share=0.0), clips, generator())
    frames = model.config.flat_frames
    assert noise.frames.tolist() == [frames] * 3 and noise.counts.video.sum() == frames
    assert noise.rows(1, 3).frames.tolist() == [frames] * 2


def test_the_video_of_clips_without_actions_is_never_spared(model):
    clips = replace(batch(model), has_actions=np.array([True, False, True]))
    counts = draw_noise(model, replace(TRAINING, video_share=0.0), clips, generator()).counts
    assert counts.video.any(1).tolist() == [False, True, False]
    alone = replace(TRAINING, stage=STAGES["video"], video_share=0.0)
    assert draw_noise(model, alone, clips, generator()).counts.video.all()


def take(clips, index):
    rows = slice(index, index + 1)
    values = {field.name: getattr(clips, field.name) for field in fields(clips)}
    return type(clips)(**{name: None if value is None else value[rows] for name, value in values.items()})


@pytest.mark.parametrize("changes", [{}, CLONING], ids=["video model", "encoder"])
def test_end_to_end_every_weight_that_can_hears_of_the_actions_and_nothing_of_the_video(changes, monkeypatch):
    # Of several processes all wait for every weight.
    monkeypatch.setattr("videopolicy.training.objective.process_state", lambda: SimpleNamespace(num_processes=2))
    model, gradients = small_model(**changes), []
    loss, one, other = objective(model, stage="end_to_end", text_dropout=0.0), batch(model), batch(model)
    other.future[:] += 1
    for clips in (one, other):
        model.zero_grad()
        total(loss_of(loss, clips)).backward()
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
    with pytest.raises(
        UserError, match=f"generates no video, so stage '{stage}' is not for it; use --stage end_to_end"
    ):
        objective(small_model(**CLONING), stage=stage)
