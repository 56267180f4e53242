"""From a published pipeline to a policy: import, training on windows of Wan's latents, a plan, imagined frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.cosmos import write_pipeline
from tests.porting.test_cosmos import TEMPLATE
from tests.small import MODEL, SIZE, TRAINING, observation, write_data

from videopolicy import checkpoint
from videopolicy.clips.cache import open_cache
from videopolicy.clips.windows import Window
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import make
from videopolicy.porting.convert import convert
from videopolicy.presets.cosmos_2b import PRESET
from videopolicy.training.run import train

pytestmark = pytest.mark.slow

WINDOW = Window(frames=8, stride=1, actions=8)
TOGETHER = replace(
    TEMPLATE,
    views=("top", "close"),
    size=SIZE,
    window=WINDOW,
    execute=4,
    text=replace(TEMPLATE.text, length=24),
    head=MODEL.head,
    sampling=Sampling("one_pass", steps=3),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps by the preset's law, that began with imported weights."""
    folder = tmp_path_factory.mktemp("cosmos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        model = convert(str(write_pipeline(folder / "published")), TOGETHER).model
        checkpoint.save(model, checkpoint.Provenance("video", 0), folder / "imported")
        recipe = replace(TRAINING, noise=PRESET.training.noise, conditioning_noise=0.0, gradient_checkpointing=True)
        data = write_data(folder / "dots", episodes=3, steps=20)
        train(data, TOGETHER, recipe, folder / "run", init=folder / "imported")
        yield folder


def test_the_cache_holds_windows_of_the_latents(run):
    cache = open_cache(run / "run" / "cache")
    assert cache.offsets == WINDOW.offsets
    # Of each view's window the current image, and two latents of four frames each.
    assert cache.codes.shape[2:] == (2, 3, 8, 8, 8)


def test_video_model_and_head_have_learnt_and_what_is_pretrained_has_not(run):
    begun, model = (checkpoint.load(folder)[0] for folder in (run / "imported", run / "run" / "checkpoint"))
    weights = begun.backbone.state_dict()
    moved = {name for name, value in model.backbone.state_dict().items() if not torch.equal(value, weights[name])}
    assert {name.split(".")[1] for name in moved} >= {"transformer_blocks", "patch_embed", "proj_out"}
    assert "empty_prompt" not in moved and model.backbone.empty_prompt.any()
    for name, value in model.latents.state_dict().items():
        assert torch.equal(value, begun.latents.state_dict()[name])
    assert model.head is not None and begun.head is None


def test_it_plans_and_imagines(run, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(run / "cache"))
    (plan,) = make(str(run / "run" / "checkpoint")).plan([observation(size=SIZE)], [0], True)
    assert plan.actions.shape == (8, 2) and np.isfinite(plan.actions).all()
    shapes = {view: frames.shape for view, frames in plan.imagined.items()}
    assert shapes == dict.fromkeys(TOGETHER.views, (8, SIZE, SIZE, 3))
    assert plan.offsets == WINDOW.offsets
    (parked,) = make(str(run / "run" / "checkpoint"), offload=True).plan([observation(size=SIZE)], [0], False)
    np.testing.assert_allclose(parked.actions, plan.actions, atol=1e-5)
