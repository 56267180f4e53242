"""Stage "distill": a student of few steps, from a teacher of many."""

from dataclasses import replace

import pytest
import torch
from tests.small import CLONING, TRAINING, batch, same, small_model

from videopolicy import checkpoint
from videopolicy.backbones import encoded, images, unet
from videopolicy.checkpoint import Provenance
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise import joint, pinned, starts
from videopolicy.errors import UserError
from videopolicy.latents import pca
from videopolicy.models.sampling import Sampling
from videopolicy.training import distillation
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Objective, total
from videopolicy.training.run import train
from videopolicy.training.stages import DISTILL

SAMPLING = Sampling(steps=4, sigma_max=10.0, sampler="heun", guidance=LinearGuidance(1.0, 1.5))
RECIPE = replace(TRAINING, stage=DISTILL, validation_episodes=0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A guided policy on disk; that its weights are random does not matter to whoever imitates it."""
    folder = tmp_path_factory.mktemp("teacher") / "checkpoint"
    model = small_model(sampling=SAMPLING, modes={"fast": replace(SAMPLING, steps=2)})
    checkpoint.save(model, Provenance("joint", 1, noise=joint.Config()), folder)
    return folder


def drawn(model, sampling, clips, noise):
    """What a model draws for these clips from this noise."""
    condition = model.condition(torch.from_numpy(clips.current), clips.instructions)
    return model.sample(condition, noise, sampling)


def apart(one, other):
    """Mean squared differences of the video and of the actions."""
    difference = one - other
    return difference.video.square().mean().item(), difference.actions.square().mean().item()


def test_one_step_of_a_student_learns_to_arrive_where_many_of_its_teacher_do(teacher, monkeypatch):
    """Of a few clips and their noise, so that a moment suffices: what is sampled approaches what the loss aims at."""
    monkeypatch.setattr(distillation, "LEAST_STRIDES", 4)
    master, student = checkpoint.load(teacher)[0], checkpoint.load(teacher)[0]
    student.config = distillation.student(student.config, 1)
    recipe = distillation.at_starts(replace(RECIPE, conditioning_noise=0.0, text_dropout=0.0), master.config)
    recipe = replace(recipe, noise=replace(recipe.noise, width=0.0))
    objective, clips = Objective(student, recipe, master), batch(master, 3)
    noise = draw_noise(student, recipe, clips, torch.Generator().manual_seed(0))
    own, many = student.config.sampling, replace(SAMPLING, sampler="euler", steps=4)
    goal, before = (drawn(master, sampling, clips, noise.noise) for sampling in (many, own))
    optimizer = torch.optim.Adam(objective.parameter_groups(), lr=3e-3)
    for _ in range(12):
        total(objective(clips, noise)).backward()
        optimizer.step()
        optimizer.zero_grad()
    was, now = apart(before, goal), apart(drawn(student, own, clips, noise.noise), goal)
    assert now[0] < 0.5 * was[0] and now[1] < 0.5 * was[1]


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_and_leaves_the_teacher_as_it_was(teacher, data, tmp_path):
    before = (teacher / "model.safetensors").read_bytes()
    recipe = replace(RECIPE, decay=False, student_steps=2)
    whole = train(data, None, recipe, tmp_path / "whole", init=teacher)
    train(data, None, replace(recipe, steps=2), tmp_path / "parts", init=teacher)
    parts = train(data, None, recipe, tmp_path / "parts", init=teacher, resume=True)
    (one, origin), (other, _), (master, _) = (checkpoint.load(folder) for folder in (whole, parts, teacher))
    assert same(one, other) and not same(one, master)
    own = one.config.sampling
    assert (own.sampler, own.steps, own.guidance.off, one.config.modes) == ("euler", 2, True, {})
    assert origin.stage == "distill" and own.warnings(origin.noise) == ()
    assert (teacher / "model.safetensors").read_bytes() == before


def test_the_student_moves_and_the_teacher_does_not_and_both_read_the_same_words(teacher):
    master, student = checkpoint.load(teacher)[0], checkpoint.load(teacher)[0]
    student.config = distillation.student(student.config, 1)
    objective = Objective(student, distillation.at_starts(RECIPE, master.config), master)
    clips = batch(student)
    noise = draw_noise(student, objective.training_config, clips, torch.Generator().manual_seed(0))
    total(objective(clips, noise)).backward()
    assert all(weight.grad is None for weight in master.parameters())
    moves = {name for name, weight in student.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moves and all(name.startswith(("backbone.", "head.")) for name in moves)
    learning = {id(weight) for group in objective.parameter_groups() for weight in group["params"]}
    assert learning == {id(weight) for weight in (*student.backbone.parameters(), *student.head.parameters())}


@torch.no_grad()
def test_a_student_that_takes_its_teachers_only_step_has_nothing_to_learn(teacher, monkeypatch):
    monkeypatch.setattr(distillation, "LEAST_STRIDES", 1)
    unguided = replace(SAMPLING, steps=1, guidance=LinearGuidance(1.0, 1.0))
    master, student = small_model(sampling=unguided), small_model(sampling=unguided)
    student.config = distillation.student(student.config, 1)
    objective = Objective(student, distillation.at_starts(RECIPE, master.config), master)
    losses = objective.losses_at(batch(student), Levels.same(torch.tensor(10.0)), student.blank(3).map(torch.ones_like))
    assert losses.video.max() < 1e-8 and losses.actions.max() < 1e-8


def test_without_a_policy_to_begin_from_a_line_says_so(data, teacher, tmp_path):
    model = checkpoint.read_config(teacher)
    with pytest.raises(UserError, match=r"^stage 'distill' makes a trained policy faster; give it as --init$"):
        train(data, model, RECIPE, tmp_path / "run")
    checkpoint.save(small_model(None), Provenance("video", 1), tmp_path / "video")
    with pytest.raises(UserError, match="makes a trained policy faster"):
        train(data, None, RECIPE, tmp_path / "run", init=tmp_path / "video")
    checkpoint.save(small_model(**CLONING), Provenance("end_to_end", 1), tmp_path / "cloning")
    with pytest.raises(UserError, match="this model generates no video"):
        train(data, None, RECIPE, tmp_path / "run", init=tmp_path / "cloning")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_never_saw_its_path_is_refused(data, tmp_path):
    law = pinned.Config(sigma=10.0)
    checkpoint.save(small_model(sampling=SAMPLING), Provenance("joint", 1, noise=law), tmp_path / "pinned")
    with pytest.raises(UserError, match=r"law of --init does not cover; begin from a policy of law 'joint' or"):
        train(data, None, RECIPE, tmp_path / "run", init=tmp_path / "pinned")


def test_the_number_of_steps_is_about_this_stage_alone():
    with pytest.raises(UserError, match="--student-steps is about --stage distill, not 'joint'; leave it out"):
        replace(TRAINING, student_steps=2)


def test_the_law_is_that_of_the_students_steps(teacher):
    recipe = distillation.at_starts(replace(RECIPE, student_steps=3), checkpoint.read_config(teacher))
    assert recipe.noise == starts.Config(3, sigma_min=0.02, sigma_max=10.0)


def test_the_teacher_goes_by_what_it_makes_of_an_image_itself(monkeypatch):
    """An encoder that learns must not move what it is to learn."""
    encoder = encoded.Config(
        images.Config(channels=(8, 16), blocks=1), video=unet.Config(channels=(32,), attention=(True,), taps=())
    )
    changes = {"latents": pca.Config(patch=4, channels=6, pixels=True), "backbone": encoder, "residual": True}
    master, student = (small_model(reads="present", sampling=SAMPLING, **changes) for _ in range(2))
    student.config = distillation.student(student.config, 1)
    objective, clips = Objective(student, distillation.at_starts(RECIPE, master.config), master), batch(student)
    noise = draw_noise(student, objective.training_config, clips, torch.Generator().manual_seed(0))
    aims, lesson = [], objective.teacher.lesson
    monkeypatch.setattr(objective.teacher, "lesson", lambda *given: aims.append(lesson(*given)) or aims[-1])
    objective(clips, noise)
    with torch.no_grad():
        for weight in student.backbone.encoder.parameters():
            weight.mul_(1.5)
    objective(clips, noise)
    assert torch.equal(aims[0][1].video, aims[1][1].video) and torch.equal(aims[0][1].actions, aims[1][1].actions)
