from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.examples.unified import example
from tests.small import TRAINING, batch, fitted, small_model

from videopolicy.checkpoint import Provenance, load, save
from videopolicy.clips.dataset import ClipBatch
from videopolicy.diffusion.clocks import FORWARD_DYNAMICS, INVERSE_DYNAMICS, POLICY, VIDEO
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise import asynchronous, independent, joint, pinned
from videopolicy.diffusion.noise.base import CLEAN
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.presets.base import preset
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective, total
from videopolicy.training.stages import ACTION, ATTACHED
from videopolicy.tuning.ways import candidates

STEPS = Sampling(steps=3)


@pytest.fixture(scope="module")
def model():
    return fitted(example)


def noise(model, clips=2, seed=0):
    return Joint.randn_like(model.blank(clips), torch.Generator().manual_seed(seed))


def condition(model, clips=2):
    side = model.blank(1).video.shape[-1]
    codes = torch.randn((clips, 1, 6, side, side), generator=torch.Generator().manual_seed(5))
    return model.condition(codes, ["reach the red disc", "press"][:clips])


def given(model, seed):
    return noise(model, seed=seed) * 0.5


@torch.no_grad()
def test_noisy_actions_change_the_video_the_less_the_noisier_they_are_said_to_be(model):
    x, other = noise(model), noise(model, seed=1)
    differences = []
    for sigma in (0.1, 1e4):
        levels = Levels(torch.full((2,), 1.0), torch.full((2,), sigma))
        one, two = (model.denoise(Joint(x.video, n.actions), levels, condition(model)).video for n in (x, other))
        differences.append(float((one - two).abs().max()))
    assert differences[0] > 10 * differences[1]


@torch.no_grad()
def test_the_video_is_told_the_level_of_the_actions(model):
    x = noise(model)
    shown = [
        model.denoise(x, Levels(torch.ones(2), torch.full((2,), sigma)), condition(model)).video for sigma in (1, 2.0)
    ]
    assert not torch.allclose(*shown)


def test_forward_dynamics_go_by_the_actions_and_give_them_back(model):
    one, two = (model.predict(condition(model), noise(model), STEPS, FORWARD_DYNAMICS, given(model, n)) for n in (1, 2))
    assert torch.equal(one.actions, given(model, 1).actions) and not torch.allclose(one.video, two.video)
    beside = Joint(noise(model, seed=9).video, given(model, 1).actions)
    again = model.predict(condition(model), noise(model), STEPS, FORWARD_DYNAMICS, beside)
    assert torch.equal(one.video, again.video)


@pytest.mark.parametrize("build", [lambda: fitted(example), small_model])
def test_inverse_dynamics_go_by_the_video_whichever_the_model(build):
    model = build()
    one, two = (model.predict(condition(model), noise(model), STEPS, INVERSE_DYNAMICS, given(model, n)) for n in (1, 2))
    assert torch.equal(one.video, given(model, 1).video) and not torch.allclose(one.actions, two.actions)


def test_a_model_that_takes_no_actions_says_who_does():
    model = small_model()
    with pytest.raises(UserError, match=r"takes none.*--preset uwm"):
        model.predict(condition(model), noise(model), STEPS, FORWARD_DYNAMICS, given(model, 1))
    assert model.predict(condition(model), noise(model), STEPS, VIDEO).video.isfinite().all()


@pytest.mark.parametrize("build", [lambda: fitted(example), small_model])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_one_pass_acts_beside_a_video_of_pure_noise(build, scale):
    model, guidance = build(), LinearGuidance(1.0, scale)
    acted = model.sample(condition(model), noise(model), Sampling("one_pass", 3, guidance=guidance))
    policy = model.predict(condition(model), noise(model), Sampling(steps=3, guidance=guidance), POLICY)
    torch.testing.assert_close(acted.actions, policy.actions)


def test_a_step_of_the_actions_costs_a_pass_of_the_network(model):
    passes = []
    hook = model.backbone.register_forward_hook(lambda *_: passes.append(1))
    model.sample(condition(model), noise(model), Sampling("one_pass", 5))
    hook.remove()
    assert (len(passes), 5) == Sampling("one_pass", 5).passes(model.looks_once) == (5, 5)
    assert Sampling("one_pass", 5).passes(small_model().looks_once) == (1, 5)


def test_nothing_that_only_spares_looks_is_tried_on_it():
    own = Sampling(steps=5)
    found = {way.sampling for way in candidates(own, looks_once=False)}
    assert Sampling("one_pass", 5) in {way.sampling for way in candidates(own)} - found
    assert Sampling("one_pass", 3) in found


def test_tokens_and_registers_learn_from_both_losses():
    model = fitted(example).train()
    for counted in ("video", "actions"):
        model.zero_grad()
        denoised = model.denoise(noise(model), Levels.same(torch.ones(2)), condition(model))
        getattr(denoised, counted).square().mean().backward()
        for name, weight in model.tokens.named_parameters():
            assert weight.grad is not None and weight.grad.any(), (counted, name)


def with_actions(clips: ClipBatch, actions: np.ndarray, has: list[bool]) -> ClipBatch:
    return replace(clips, actions=actions.astype(np.float32), has_actions=np.array(has))


def test_clips_without_actions_show_noise_of_the_highest_level_and_count_for_nothing():
    model = fitted(example)
    objective = Objective(model, replace(TRAINING, noise=independent.Config(), stage=ATTACHED))
    clips, has = batch(model), [True, False, True]
    drawn = draw_noise(model, objective.training_config, clips, generator_of(0, 0))
    drawn = replace(drawn, counts=replace(drawn.counts, actions=torch.tensor(has)[:, None].expand(3, 8)))
    shown = []
    hook = model.tokens.register_forward_hook(lambda _module, inputs, _out: shown.append(inputs[0]))
    losses = objective(with_actions(clips, clips.actions * np.array(has)[:, None, None], has), drawn)
    hook.remove()
    highest = model.config.sampling.sigma_max
    assert losses.levels.actions[1] == highest and torch.equal(losses.levels.video, drawn.levels.video)
    assert torch.equal(losses.levels.actions[::2], drawn.levels.actions[::2])
    scaled = drawn.noise.actions[1] * highest / (1 + highest**2) ** 0.5
    torch.testing.assert_close(shown[0][1], scaled)
    assert not losses.actions[1].any() and losses.actions[0].all()
    total(losses).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


def test_clean_actions_that_do_not_count_are_shown_all_the_same():
    """By law `asynchronous` the video is learnt given them; only what nobody recorded is hidden in noise."""
    model, law = fitted(example), asynchronous.Config(clean=0.99)
    objective = Objective(model, replace(TRAINING, noise=law, stage=ATTACHED))
    drawn = draw_noise(model, objective.training_config, batch(model), generator_of(0, 0))
    losses = objective(with_actions(batch(model), batch(model).actions, [True, False, True]), drawn)
    assert losses.levels.actions.tolist() == pytest.approx([CLEAN, model.config.sampling.sigma_max, CLEAN])


def test_a_model_whose_video_ignores_actions_learns_the_same_whatever_stands_in_for_missing_ones():
    model = small_model()
    objective, clips = Objective(model, replace(TRAINING, noise=joint.Config())), batch(model, has_actions=False)
    drawn = draw_noise(model, objective.training_config, clips, generator_of(0, 0))
    losses = []
    for actions in (clips.actions, 0 * clips.actions):
        losses.append(total(objective(with_actions(clips, actions, [False] * 3), drawn)))
    assert losses[0] == losses[1]


def test_video_that_was_learnt_alone_gains_the_path_of_actions(tmp_path):
    """What is new are the head and the tokens; everything else fits."""
    video, whole = fitted(example, None), fitted(example)
    assert not video.acts and video.tokens is None
    new = set(whole.state_dict()) - set(video.state_dict())
    assert new and all(name.startswith(("head.", "tokens.")) for name in new)
    assert set(video.state_dict()) <= set(whole.state_dict())
    save(whole, Provenance("joint", 1), tmp_path / "c")
    again, _ = load(tmp_path / "c")
    assert again.config == example and torch.equal(again.tokens.registers, whole.tokens.registers)


def test_a_frozen_video_model_still_teaches_the_head():
    model = fitted(example)
    objective = Objective(model, replace(TRAINING, stage=ACTION))
    clips = batch(model)
    total(objective(clips, draw_noise(model, objective.training_config, clips, generator_of(0, 0)))).backward()
    assert all(weight.grad is None for weight in model.backbone.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in model.head.parameters())
    assert all(weight.grad is not None and weight.grad.any() for weight in model.tokens.parameters())


@pytest.mark.parametrize(("law", "warned"), [(joint.Config(), True), (pinned.Config(80.0), True), (None, False)])
@pytest.mark.parametrize("clocks", [FORWARD_DYNAMICS, INVERSE_DYNAMICS])
def test_a_law_that_never_shows_a_clean_part_beside_noise_is_told(law, warned, clocks):
    lines = STEPS.clock_warnings(clocks, law)
    assert len(lines) == warned and all("independent" in line for line in lines)
    assert STEPS.clock_warnings(clocks, independent.Config()) == ()


@pytest.mark.parametrize("size", ["", "small_"])
def test_the_two_presets_differ_in_the_path_alone(size):
    one, other = preset(f"{size}uwm"), preset(f"{size}uwm_separate")
    assert one.training == other.training
    assert {**vars(other.model), "registers": 8} == vars(one.model)
    assert one.training.noise.covers(INVERSE_DYNAMICS.asked(one.model.sampling.levels(), 0.02))
    assert one.model.sampling.steps == 10 and one.model.sampling.warnings(one.training.noise) == ()
    whole = one.model.mode("joint")
    assert whole.warnings(one.training.noise) == () and whole.sampler == "euler"
