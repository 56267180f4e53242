"""What every model must keep, as its `EXAMPLE` has it, or with its default configuration."""

import re
from dataclasses import replace

import pytest
import torch
from tests.contracts.plugins import example, skip_unless_it_can_run
from tests.small import NORMALIZER

from videopolicy import registry
from videopolicy.configs import from_json, to_json
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.errors import UserError
from videopolicy.models.base import Model, ModelConfig
from videopolicy.models.denoiser import Denoiser
from videopolicy.models.sampling import Sampling
from videopolicy.training.prepare import build

INSTRUCTIONS = ["reach the red disc", "reach the blue disc"]


@pytest.fixture(params=registry.names("models"), scope="module")
def config(request):
    skip_unless_it_can_run("models", request.param)
    return example("models", request.param)


@pytest.fixture(scope="module")
def model(config):
    return build(config, NORMALIZER, 0).eval()


def noise(model, clips=2, seed=0):
    return Joint.randn_like(model.blank(clips), torch.Generator().manual_seed(seed))


def condition(model, clips=2):
    side = model.blank(1).video.shape[-1]
    shape = (clips, len(model.config.views), model.latents.code_channels, side, side)
    return model.condition(torch.randn(shape, generator=torch.Generator().manual_seed(5)), INSTRUCTIONS[:clips])


def levels(video, actions):
    return Levels(torch.tensor(video), torch.tensor(actions))


def test_it_is_built_from_its_settings_which_a_checkpoint_keeps(config, model):
    assert isinstance(config, ModelConfig) and isinstance(model, Model)
    assert from_json(ModelConfig, to_json(config)) == config
    assert model.config == config and model.acts and model.action_width == len(NORMALIZER.low)
    assert build(config, NORMALIZER, 0).state_dict().keys() == model.state_dict().keys()


def test_its_parts_hold_every_weight_that_can_learn(model):
    parts = (model.latents, model.text, model.backbone, *model.action_modules)
    held = {id(weight) for part in parts for weight in part.parameters()}
    assert {id(weight) for weight in model.parameters()} == held


@torch.no_grad()
def test_it_denoises_video_and_actions_each_at_its_own_level(model):
    x, given = noise(model), condition(model)
    clean = model.denoise(x, levels([1e-4] * 2, [1e-4] * 2), given)
    assert clean.video.shape == x.video.shape and clean.actions.shape == x.actions.shape
    torch.testing.assert_close(clean.actions, x.actions, rtol=0, atol=1e-2)
    if model.config.generates_video:
        torch.testing.assert_close(clean.video, x.video, rtol=0, atol=1e-2)
    mixed = model.denoise(Joint(x.video * 80, x.actions), levels([80.0] * 2, [1e-4] * 2), given)
    torch.testing.assert_close(mixed.actions, x.actions, rtol=0, atol=1e-2)
    other = model.denoise(x, levels([1.0] * 2, [3.0] * 2), given).actions
    assert not torch.allclose(other, model.denoise(x, levels([1.0] * 2, [1.0] * 2), given).actions)


@torch.no_grad()
def test_each_clip_stands_alone(model):
    x, given = noise(model), condition(model)
    both = model.denoise(x, levels([0.3, 5.0], [2.0, 0.1]), given)
    first = model.denoise(x.map(lambda part: part[:1]), levels([0.3], [2.0]), condition(model, 1))
    torch.testing.assert_close(both.actions[:1], first.actions, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both.video[:1], first.video, rtol=1e-4, atol=1e-4)


def frozen_or_skip(model, x, at, given):
    try:
        return model.freeze(x, at, given)
    except UserError:
        pytest.skip("it runs the whole network for every level of the actions, and says so")


@torch.no_grad()
def test_frozen_it_answers_as_it_does_live_at_the_level_where_it_froze(model):
    x, given, at = noise(model), condition(model), levels([2.0] * 2, [2.0] * 2)
    live = model.denoise(x, at, given)
    frozen = frozen_or_skip(model, x, at, given)(x, at)
    torch.testing.assert_close(frozen.video, live.video)
    torch.testing.assert_close(frozen.actions, live.actions)


@torch.no_grad()
def test_frozen_it_keeps_the_video_and_goes_on_with_the_actions(model):
    x, given, at = noise(model), condition(model), levels([2.0] * 2, [2.0] * 2)
    frozen, later = frozen_or_skip(model, x, at, given), levels([0.5] * 2, [0.5] * 2)
    moved = Joint(x.video * 0, noise(model, seed=1).actions)
    beside = model.denoise(Joint(x.video, moved.actions), levels([2.0] * 2, [0.5] * 2), given)
    torch.testing.assert_close(frozen(moved, later).actions, beside.actions)


@torch.no_grad()
def test_it_reads_the_robots_state_or_says_that_it_cannot(config):
    try:
        model = build(replace(config, proprioception=True, state_width=3), NORMALIZER, 0).eval()
    except UserError:
        pytest.skip("it reads no state, and says so")
    x, given, at = noise(model), condition(model), levels([1.0] * 2, [1.0] * 2)
    known = replace(given, state=torch.tensor([[1.0, 0, 0, 1], [1.0, 0, 0, 1]]))
    moved = replace(known, state=known.state + torch.tensor([0.0, 2, 0, 0]))
    fresh = model.denoise(x, at, known).actions
    torch.testing.assert_close(fresh, model.denoise(x, at, given).actions, msg="fresh weights say nothing of it")
    for weight in (weight for module in model.action_modules for weight in module.parameters()):
        weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    now, then, hidden = (model.denoise(x, at, one) for one in (known, moved, given))
    assert (now.actions - then.actions).abs().max() > 1e-4 < (now.actions - hidden.actions).abs().max()
    assert torch.equal(now.video, then.video), "the video is none of the state's business"


def test_the_actions_send_a_share_of_their_gradient_into_the_video(model):
    """None if they are detached; the answer is the same."""
    given, at, found = condition(model).map(torch.detach), levels([1.0] * 2, [1.0] * 2), {}
    for share in (0.0, 0.5, 1.0):
        model.zero_grad()
        denoised = model.denoise(noise(model), at, given, through=share)
        denoised.actions.square().mean().backward()
        weights = [weight.grad for weight in model.backbone.parameters() if weight.grad is not None]
        found[share] = denoised.actions, [weight for weight in weights if weight.any()]
    model.zero_grad()
    assert not found[0.0][1] and found[1.0][1]
    assert torch.equal(found[0.0][0], found[1.0][0]) and torch.equal(found[0.5][0], found[1.0][0])
    assert sum(part.norm() for part in found[0.5][1]) < sum(part.norm() for part in found[1.0][1])


@torch.no_grad()
def test_the_video_alone_is_that_of_both(model):
    x, given, at = noise(model), condition(model), levels([2.0, 0.5], [1.0, 3.0])
    torch.testing.assert_close(model.video_alone(x, at, given), model.denoise(x, at, given).video)


def draw(model, sampler):
    """Skips the test if the model cannot be frozen, which some samplers do, and says so."""
    try:
        return model.sample(condition(model), noise(model), Sampling(sampler, steps=2))
    except UserError as error:
        with pytest.raises(UserError, match=re.escape(str(error))):
            model.freeze(noise(model), levels([1.0] * 2, [1.0] * 2), condition(model))
        pytest.skip("it cannot be frozen, which this sampler does")


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_every_sampler_draws_from_it(model, name):
    drawn = draw(model, name)
    assert drawn.video.isfinite().all() and drawn.actions.isfinite().all()
    assert drawn.actions.shape == (2, model.config.window.actions, model.action_width)
    again = model.sample(condition(model), noise(model), Sampling(name, steps=2))
    assert torch.equal(drawn.actions, again.actions)


@torch.no_grad()
def test_it_decodes_what_it_draws_into_frames_of_every_view(model):
    config, clips = model.config, 2
    model.latents.fit_window(torch.randint(0, 256, (4, 1 + config.window.frames, config.size, config.size, 3)).byte())
    side = model.blank(1).video.shape[-1]
    current = torch.zeros(clips, len(config.views), model.latents.code_channels, side, side)
    frames = model.decode(noise(model).video, current)
    expected = (clips, len(config.views), config.window.frames, config.size, config.size, 3)
    assert frames.shape == expected and frames.dtype == torch.uint8


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_without_actions_it_imagines(config, model, name):
    draw(model, name)
    video = build(config, None, 0).eval()
    assert not video.acts and not video.action_modules
    denoised = Denoiser(video, condition(video))(noise(video), Levels.same(torch.tensor(1.0)))
    sampled = video.sample(condition(video), noise(video), Sampling(name, steps=2))
    for found in (denoised, sampled):
        assert found.actions.shape[2] == 0 and found.video.isfinite().all()


def test_a_video_model_goes_on_with_other_views(config):
    video = build(config, None, 0)
    other = build(replace(config, views=("front", "back", *config.views)), NORMALIZER, 0)
    missing, unexpected = other.load_state_dict(video.state_dict(), strict=False)
    acting = tuple(name for name, module in other.named_modules() if module in other.action_modules)
    assert not unexpected and all(name.startswith(acting) for name in missing)
