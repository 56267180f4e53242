"""Every noise law, stage and recipe of ours runs on a video transformer: two steps of each, on random clips."""

from dataclasses import replace

import pytest
import torch
from tests.small import MODEL, SIZE, TRAINING, VIEWS, batch, fitted, small_model

from videopolicy import registry
from videopolicy.backbones import encoded, unet, wan
from videopolicy.diffusion.joint import Joint
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.training import distillation
from videopolicy.training.lora import merged
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective, total
from videopolicy.training.stages import DISTILL, STAGES

BACKBONE = wan.Config(layers=2, heads=2, head_channels=12, hidden=32, frequencies=16, taps=(0, 1))
# The same as two networks, of which both are needed at the levels of `TRAINING`, with the images on channels.
EXPERTS = replace(BACKBONE, image="channels", boundary=0.5)
SHARED = {"views": VIEWS, "size": SIZE, "window": MODEL.window, "text": MODEL.text, "execute": MODEL.execute}
# As wide as a CPU's; those of a GPU are these again, and those of images alone have no video model to swap.
RECIPES = [
    name
    for name in registry.names("presets")
    if not name.startswith(("small", "svd"))
    and isinstance(registry.entry("presets", name).model.backbone, unet.Config | encoded.Config)
]


def on_wan(config):
    """The same kind of model on the transformer."""
    inner, swapped = config.backbone, BACKBONE
    if isinstance(inner, encoded.Config):
        swapped = replace(inner, video=replace(BACKBONE, taps=()))
    return replace(config, **SHARED, backbone=swapped)


def two_steps(model, training, teacher=None):
    """The names of what moved."""
    objective, clips = Objective(model, training, teacher), batch(model, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(objective.parameter_groups())
    for step in range(2):
        drawn = draw_noise(model, training, clips, generator_of(0, step))
        loss = total(objective(clips, drawn), pool_losses=training.pool_losses)
        assert loss.isfinite()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.state_dict()
    return {
        name.partition(".")[0] for name in after if name not in before or not torch.equal(after[name], before[name])
    }


def drawn_plan(model):
    clips = batch(model, 1)
    condition = model.condition(torch.from_numpy(clips.current), clips.instructions)
    noise = Joint.randn_like(model.blank(1), torch.Generator().manual_seed(0))
    return model.sample(condition, noise, model.config.sampling)


@pytest.mark.parametrize("backbone", [BACKBONE, EXPERTS], ids=["one", "experts"])
@pytest.mark.parametrize("law", registry.names("noise"))
def test_every_noise_law(law, backbone):
    model = small_model(backbone=backbone)
    noise = registry.entry("noise", law)().resolve(model.config.sampling.sigma_max)
    assert "backbone" in two_steps(model, replace(TRAINING, noise=noise))


@pytest.mark.parametrize("backbone", [BACKBONE, EXPERTS], ids=["one", "experts"])
@pytest.mark.parametrize("name", [name for name in STAGES if name != DISTILL.name])
def test_every_stage(name, backbone):
    stage = STAGES[name]
    moved = two_steps(small_model(backbone=backbone), replace(TRAINING, stage=stage))
    assert ("backbone" in moved, "head" in moved) == (stage.trains_video, stage.trains_actions)


@pytest.mark.parametrize("backbone", [BACKBONE, EXPERTS], ids=["one", "experts"])
def test_adapters_beside_its_attention_and_feed_forward_layers(backbone):
    model = small_model(backbone=backbone)
    recipe = replace(TRAINING, lora=2, gradient_checkpointing=True)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    assert "backbone" in two_steps(model, recipe)
    after = merged(model.backbone.state_dict())
    assert after.keys() == before.keys()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    # In each of the blocks, the four layers of both attentions and the two of the feed-forward network.
    assert len(moved) == backbone.experts * backbone.layers * 10 and all(name.endswith(".weight") for name in moved)


def test_a_student_of_few_steps():
    sampling = Sampling(steps=2, sigma_max=10.0)
    teacher, student = (small_model(backbone=BACKBONE, sampling=sampling) for _ in range(2))
    student.config = distillation.student(student.config, 1)
    recipe = distillation.at_starts(replace(TRAINING, stage=DISTILL), teacher.config)
    assert two_steps(student, recipe, teacher) == {"backbone", "head"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_learns_and_acts(name):
    preset = registry.entry("presets", name)
    config = on_wan(preset.model)
    model = fitted(config)
    noise = preset.training.noise.resolve(config.sampling.sigma_max)
    assert {"backbone", "head"} <= two_steps(model, replace(preset.training, noise=noise, random_shift=0))
    plan = drawn_plan(model.eval())
    assert plan.actions.isfinite().all() and plan.actions.shape == (1, MODEL.window.actions, model.action_width)


@pytest.mark.parametrize("backbone", [BACKBONE, EXPERTS], ids=["one", "experts"])
@pytest.mark.parametrize("arranged", ["width", "time"])
def test_several_views(arranged, backbone):
    model = small_model(backbone=replace(backbone, views=arranged), views=("top", "close"))
    assert {"backbone", "head"} <= two_steps(model, TRAINING)
    assert drawn_plan(model.eval()).video.isfinite().all()


@pytest.mark.parametrize("reads", ["present", "difference"])
def test_a_head_that_reads_the_present_on_two_networks(reads):
    model = small_model(backbone=EXPERTS, views=("top", "close"), reads=reads)
    assert {"backbone", "head"} <= two_steps(model, TRAINING)
    assert drawn_plan(model.eval()).actions.isfinite().all()


@pytest.mark.parametrize("law", ["pinned", "joint"])
def test_weights_of_both_networks_have_a_gradient_in_every_step(law):
    """Of no clips it is zero: processes that share the weights wait for it, whoever has which clips."""
    model = small_model(backbone=EXPERTS)
    noise = registry.entry("noise", law)().resolve(model.config.sampling.sigma_max)
    training = replace(TRAINING, noise=noise)
    objective, clips = Objective(model, training), batch(model, 1)
    total(objective(clips, draw_noise(model, training, clips, generator_of(0, 0)))).backward()
    networks = [[weight.grad for weight in net.blocks.parameters()] for net in model.backbone.experts]
    assert all(grad is not None for network in networks for grad in network)
    assert sorted(any(grad.any() for grad in network) for network in networks) == [False, True]


@torch.no_grad()
def test_flat_frames_begin_with_the_current_image_of_every_view_that_is_drawn():
    model = small_model(backbone=EXPERTS, views=("top", "close"))
    clips, seeds = batch(model), torch.arange(3)
    for drawn in (None, seeds[: len(clips.current)]):
        clean = Objective(model, TRAINING).clean(clips, drawn)
        assert torch.equal(clean.video[:, :2], torch.from_numpy(clips.current))
        assert torch.equal(model.unflatten(clean.video), torch.from_numpy(clips.future))
    assert model.blank(1).video.shape[1] == model.config.flat_frames == 2 + 2 * model.config.latent_frames


def test_a_pad_is_refused():
    for backbone in (BACKBONE, EXPERTS):
        with pytest.raises(UserError, match="pad"):
            small_model(backbone=backbone, pad=1)


def test_images_on_channels_are_refused_inside_another_backbone():
    config = registry.entry("presets", "cotrained").model
    inside = replace(config.backbone, video=replace(EXPERTS, taps=()))
    with pytest.raises(UserError, match="cannot stand inside another backbone"):
        fitted(replace(config, **SHARED, backbone=inside))
