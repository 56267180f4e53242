"""What the head sees of a model: the future, the present, the difference of the two, motion; and a whole image."""

from dataclasses import replace

import pytest
import torch
from tests.small import MODEL, MOTION, TRAINING, batch, small_model

from videopolicy.diffusion.clocks import INVERSE_DYNAMICS, POLICY
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise import independent
from videopolicy.errors import UserError
from videopolicy.latents import pca
from videopolicy.models.sampling import Sampling
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective
from videopolicy.training.stages import JOINT, STAGES

INSTRUCTIONS = ["reach the red disc", "press"]
TWO_VIEWS = {"views": ("top", "close"), "pad": 1}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise(model, size=2, seed=0):
    return Joint.randn_like(model.blank(size), torch.Generator().manual_seed(seed))


def codes(model, size=2, seed=5):
    side = model.blank(1).video.shape[-2:]
    return draw(size, len(model.config.views), model.latents.code_channels, *side, seed=seed)


def condition(model, size=2):
    return model.condition(codes(model, size), INSTRUCTIONS[:size])


def each(video, actions):
    return Levels(torch.tensor(video), torch.tensor(actions))


def frames_run(model, run):
    """Flat frames of each pass of the video model."""
    counted, net = [], model.backbone.net
    hook = net.register_forward_pre_hook(lambda _module, inputs: counted.append(inputs[0].shape[1]))
    run()
    hook.remove()
    return counted


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_who_reads_the_present_acts_the_same_whatever_the_future_and_its_noise(residual):
    model = small_model(reads="present", residual=residual, **TWO_VIEWS)
    x, given = noise(model), condition(model)
    first = model.denoise(x, each([2.0, 2.0], [1.0, 1.0]), given)
    other = model.denoise(Joint(noise(model, seed=3).video * 9, x.actions), each([50.0, 0.1], [1.0, 1.0]), given)
    assert torch.equal(first.actions, other.actions) and not torch.allclose(first.video, other.video)
    elsewhere = model.condition(codes(model, seed=6), INSTRUCTIONS)
    assert not torch.allclose(model.denoise(x, each([2.0, 2.0], [1.0, 1.0]), elsewhere).actions, first.actions)
    said = replace(given, text=given.text.flip(0))
    assert not torch.allclose(model.denoise(x, each([2.0, 2.0], [1.0, 1.0]), said).actions, first.actions)


@pytest.mark.parametrize(
    ("sampling", "see", "frames"),
    [
        (Sampling("one_pass", steps=3), False, [2]),
        (Sampling("one_pass", steps=3), True, [5, 2]),
        (Sampling(steps=3, video_steps=1), False, [2]),
        (Sampling(steps=2), False, [5, 2] * 2),
    ],
    ids=str,
)
def test_passes_of_who_reads_the_present(sampling, see, frames):
    """One frame a view, and of the future as many passes as it takes to see it."""
    model = small_model(reads="present", **TWO_VIEWS)
    assert frames_run(model, lambda: model.sample(condition(model), noise(model), sampling, see=see)) == frames


@torch.no_grad()
def test_however_it_is_sampled_who_reads_the_present_acts_the_same():
    model = small_model(reads="present")
    drawn = [
        model.sample(condition(model), noise(model), sampling, see=see).actions
        for sampling in (Sampling("one_pass", steps=3), Sampling(steps=3))
        for see in (True, False)
    ]
    for actions in drawn[1:]:
        torch.testing.assert_close(actions, drawn[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_a_hidden_image_is_not_seen_in_the_present(residual):
    model = small_model(reads="present", residual=residual)
    hidden = torch.ones(2, 1, dtype=torch.bool)
    read = [
        model.read_present(model.condition(codes(model, seed=seed), INSTRUCTIONS).drop(hidden, ~hidden)).taps[-1]
        for seed in (1, 2)
    ]
    assert torch.equal(*read)


@torch.no_grad()
def test_each_view_of_the_present_is_that_of_its_own_image():
    """Both in what is denoised, at hardly any noise, and in what it is denoised given."""
    model = small_model(reads="present", **TWO_VIEWS)
    shown, seen = codes(model), []
    hook = model.backbone.net.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    model.read_present(model.condition(shown, INSTRUCTIONS))
    hook.remove()
    (given,) = seen
    images = model.latents.condition(shown.flatten(0, 1)).unflatten(0, (2, 2))
    torch.testing.assert_close(given[:, :, 6:], images)
    torch.testing.assert_close(given[:, :, :6] * (1 + 0.02**2) ** 0.5, images)


@torch.no_grad()
def test_the_difference_to_the_present_is_none_where_the_future_is_the_present():
    """One future frame, as clean as the present and equal to it."""
    changes = {"window": MODEL.window.reaching(0), "reads": "difference"}
    model = small_model(**changes)
    given, adapted = condition(model), []
    model.head.adapter.register_forward_pre_hook(lambda _module, inputs: adapted.append(inputs[0]))
    x, levels = Joint(given.latents, noise(model).actions), each([0.02] * 2, [1.0] * 2)
    model.denoise(x, levels, given)
    model.denoise(Joint(x.video + draw(*x.video.shape), x.actions), levels, given)
    same, moved = adapted
    assert all(tap.abs().max() < 1e-5 for tap in same)
    assert all(tap.abs().max() > 1e-3 for tap in moved)


@torch.no_grad()
def test_the_difference_is_taken_of_every_frame_of_every_view_from_its_own():
    model = small_model(reads="difference", **TWO_VIEWS)
    given, adapted = condition(model), []
    model.head.adapter.register_forward_pre_hook(lambda _module, inputs: adapted.append(inputs[0]))
    x, levels = noise(model), each([3.0] * 2, [1.0] * 2)
    live = model.denoise(x, levels, given)
    frozen = [model.freeze(x, levels, given, see=see)(x, levels) for see in (True, False)]
    future, present = model.denoise_video(x.video, levels.video, given)[1], model.read_present(given)
    for index, tap in enumerate(adapted[0]):
        for view in range(2):
            for frame in range(2):
                expected = future.taps[index][:, 1 + 2 * view + frame] - present.taps[index][:, view]
                torch.testing.assert_close(tap[:, view, frame], expected)
    for one in frozen:
        torch.testing.assert_close(one.actions, live.actions)


@torch.no_grad()
def test_who_reads_motion_knows_neither_picture_nor_instruction():
    """The same motion of other things, asked for in other words, is the same actions; another motion is not."""
    model = small_model(**MOTION, **TWO_VIEWS)
    x, levels, given = noise(model), each([0.02] * 2, [1.0] * 2), condition(model)
    elsewhere = model.condition(codes(model, seed=6), INSTRUCTIONS[::-1])
    motion = 0.5 * x.video
    first, same, other = (
        model.denoise(Joint(current.origin + moved, x.actions), levels, current).actions
        for current, moved in ((given, motion), (elsewhere, motion), (given, motion.flip(1)))
    )
    torch.testing.assert_close(same, first, rtol=1e-4, atol=1e-5)
    assert (other - first).abs().max() > 1e-3


@torch.no_grad()
def test_motion_is_read_the_same_live_frozen_and_of_video_that_nobody_wants():
    model = small_model(**MOTION)
    x, levels, given = noise(model), each([0.02] * 2, [1.0] * 2), condition(model)
    live = model.denoise(x, levels, given).actions
    nobody = model.denoise(x, levels, given, wanted=torch.tensor([True, False])).actions
    torch.testing.assert_close(nobody, live)
    for see in (True, False):
        torch.testing.assert_close(model.freeze(x, levels, given, see=see)(x, levels).actions, live)


def test_motion_is_a_matter_of_image_encoders_and_learns_no_text():
    for wrong in ({"residual": False}, {"backbone": MODEL.backbone}):
        with pytest.raises(UserError, match="residual=True and a backbone that encodes images"):
            small_model(**MOTION | wrong)
    model = small_model(**MOTION)
    Objective(model, replace(TRAINING, stage=STAGES["end_to_end"]))
    assert not any(weight.requires_grad for weight in model.text.parameters())
    assert all(weight.requires_grad for weight in model.head.parameters())


def test_training_measures_motion_on_the_true_video():
    model = small_model(**MOTION, sampling=Sampling(steps=3))
    objective, clips = Objective(model, replace(TRAINING, stage=STAGES["end_to_end"])), batch(model)
    given, start = objective.condition(clips), noise(model, len(clips.actions))
    drawn = objective.imagine(clips, start)
    asked = model.predict(given, start, model.config.sampling, INVERSE_DYNAMICS, objective.clean(clips, None))
    blind = model.predict(given, start, model.config.sampling, POLICY)
    assert torch.equal(drawn.actions, asked.actions) and not torch.allclose(drawn.actions, blind.actions)


def gradients(model, stage, part):
    """Who gets a gradient of a part of the loss."""
    training = replace(TRAINING, stage=stage, noise=independent.Config())
    objective, clips = Objective(model, training), batch(model)
    losses = objective(clips, draw_noise(model, training, clips, generator_of(0, 0)))
    loss = getattr(losses, f"mean_{part}")
    model.zero_grad()
    if loss.requires_grad:
        loss.backward()
    return {
        name
        for name in ("text", "backbone", "head")
        if any(p.grad is not None and p.grad.any() for p in getattr(model, name).parameters())
    }


@pytest.mark.parametrize("reads", ["future", "present", "difference"])
@pytest.mark.parametrize(
    ("stage", "video", "actions"),
    [
        ("video", {"text", "backbone"}, set()),
        ("action", set(), {"head"}),
        ("joint", {"text", "backbone"}, {"head"}),
        ("attached", {"text", "backbone"}, {"text", "backbone", "head"}),
        ("end_to_end", set(), {"text", "backbone", "head"}),
    ],
)
def test_who_learns_of_which_loss(reads, stage, video, actions):
    model = small_model(reads=reads)
    assert gradients(model, STAGES[stage], "video") == video
    assert gradients(model, STAGES[stage], "actions") == actions


@pytest.mark.parametrize("reads", ["future", "present", "difference"])
def test_the_action_loss_reaches_the_video_model_by_the_factor_of_the_stage(reads):
    found = []
    for through in (1.0, 0.25):
        model = small_model(reads=reads)
        assert gradients(model, replace(JOINT, through=through), "actions") == {"text", "backbone", "head"}
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    whole, part = found
    for name, gradient in whole.items():
        factor = 1.0 if name.startswith("head.") else 0.25
        torch.testing.assert_close(part[name], factor * gradient, rtol=1e-4, atol=1e-7)


WHOLE = pca.Config(channels=6, conditioning=40)


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_an_image_given_whole_changes_what_the_model_goes_by_and_nothing_of_what_it_denoises(residual):
    plain, whole = (small_model(residual=residual, latents=latents) for latents in (MODEL.latents, WHOLE))
    clips = batch(whole)
    few = replace(clips, current=clips.current[:, :, :6], future=clips.future[:, :, :, :6])
    objectives = [Objective(model, TRAINING) for model in (plain, whole)]
    clean = [one.clean(given, None) for one, given in zip(objectives, (few, clips), strict=True)]
    assert torch.equal(clean[0].video, clean[1].video)
    given, more = (one.condition(shown) for one, shown in zip(objectives, (few, clips), strict=True))
    assert more.latents.shape[2] == 40 and torch.equal(more.latents[:, :, :6], given.latents)
    assert (given.origin is None) == (more.origin is None) == (not residual)
    assert not residual or torch.equal(more.origin, given.origin)
    drawn = [draw_noise(model, TRAINING, clips, generator_of(0, 0)) for model in (plain, whole)]
    assert torch.equal(drawn[0].noise.video, drawn[1].noise.video)
    assert drawn[1].conditioning.shape[2] == 40
    assert objectives[1](clips, drawn[1]).video.shape == objectives[0](few, drawn[0]).video.shape


@pytest.mark.parametrize("reads", ["future", "present"])
@torch.no_grad()
def test_what_an_image_given_whole_holds_beyond_decides_the_actions(reads):
    model = small_model(latents=WHOLE, reads=reads, residual=True)
    shown = codes(model)
    other = shown.clone()
    other[:, :, 6:] += draw(34, *shown.shape[3:], seed=8)
    drawn = [
        model.sample(model.condition(given, INSTRUCTIONS), noise(model), Sampling("one_pass", steps=2))
        for given in (shown, other)
    ]
    assert drawn[0].video.shape[2] == 6
    assert not torch.allclose(drawn[0].video, drawn[1].video, atol=1e-5)
    assert not torch.allclose(drawn[0].actions, drawn[1].actions, atol=1e-6)
