"""An encoder of the current images that a video model is conditioned on, and that a head reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import TRAINING, batch, observation, small_model

from videopolicy.backbones import encoded, images, unet
from videopolicy.errors import UserError
from videopolicy.latents import pca
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Objective, total
from videopolicy.training.stages import STAGES

SMALL = encoded.Config(
    images.Config(channels=(8, 16), blocks=1), video=unet.Config(channels=(32,), attention=(True,), taps=())
)


def model(**changes):
    latents = pca.Config(patch=4, channels=6, pixels=True)
    return small_model(latents=latents, backbone=SMALL, residual=True, reads="present", **changes)


def gradients(stage, **changes):
    built = model()
    objective = Objective(built, replace(TRAINING, stage=STAGES[stage], **changes))
    clips = batch(built)
    noise = draw_noise(built, objective.training_config, clips, torch.Generator().manual_seed(0))
    total(objective(clips, noise)).backward()
    return {
        name: any(weight.grad is not None and weight.grad.any() for weight in part.parameters())
        for name, part in (("encoder", built.backbone.encoder), ("video", built.backbone.video), ("head", built.head))
    }


def test_each_loss_teaches_what_it_reads():
    every = {"encoder": True, "video": True, "head": True}
    assert gradients("attached") == every
    assert gradients("attached", video_share=0.0) == {**every, "video": False}
    assert gradients("video") == {**every, "head": False}
    assert gradients("end_to_end") == {**every, "video": False}
    assert gradients("action") == {"encoder": False, "video": False, "head": True}


def test_acting_runs_no_video_model():
    built, passes = model(), []
    built.backbone.video.register_forward_pre_hook(lambda *_: passes.append(1))
    sampling = replace(built.config.sampling, sampler="one_pass", steps=2)
    policy = CheckpointPolicy(built, sampling)
    acting = policy.plan([observation(seed=1)], [0], False)[0]
    assert not passes
    shown = policy.plan([observation(seed=1)], [0], True)[0]
    assert passes and shown.imagined and np.array_equal(acting.actions, shown.actions)


def test_the_encoder_sees_what_stands_between_the_components():
    """Two pictures that differ in a component which is not denoised: the same latents, other features."""
    built = model()
    codes = torch.randn(1, 2, 48, 4, 4, generator=torch.Generator().manual_seed(0))[:, : len(built.config.views)]
    other = codes.clone()
    other[:, :, -1, 0, 0] += 1
    with torch.no_grad():
        one, two = (built.condition(given, ["reach"]) for given in (codes, other))
    assert torch.equal(one.origin, two.origin)
    assert not torch.allclose(built.read_present(one).taps[0], built.read_present(two).taps[0])


def test_pixels_are_the_picture():
    """Of white noise all components are alike, and the pixels are those of the picture but for one scale."""
    frames = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3)).astype(np.uint8)
    latents = pca.Config(patch=4, channels=48, pixels=True).build()
    latents.fit(frames)
    given = latents.condition(latents.encode(torch.from_numpy(frames)))[:, 48:]
    pixels = torch.nn.functional.pixel_shuffle(given, 4).flatten().numpy()
    assert np.corrcoef(pixels, frames.transpose(0, 3, 1, 2).ravel())[0, 1] > 0.99
    assert pixels.std() == pytest.approx(1, abs=0.05)


def test_latents_without_pixels_are_refused():
    with pytest.raises(UserError, match=r"pca\.Config\(pixels=True\)"):
        small_model(backbone=SMALL)
    with pytest.raises(UserError, match="two ways to be given an image whole"):
        pca.Config(patch=4, channels=6, pixels=True, conditioning=48)
