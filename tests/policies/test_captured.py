"""On a GPU alone: a plan as one CUDA graph is the plan that the passes one by one give."""

import pytest
import torch
from tests.small import small_model

from videopolicy.models.sampling import Sampling
from videopolicy.policies.captured import Captured
from videopolicy.policies.checkpoint import CheckpointPolicy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.mark.parametrize("sampling", [Sampling(steps=3), Sampling("heun", steps=3), Sampling("one_pass", steps=3)])
def test_it_draws_what_the_model_draws(sampling):
    model = small_model().cuda()
    policy = CheckpointPolicy(model, sampling)
    draw = Captured(model, sampling)
    side = model.blank(1).video.shape[-1]
    codes = torch.randn(2, len(model.config.views), model.latents.code_channels, side, side, device="cuda")
    for seed in range(3):
        condition = model.condition(codes + seed, [f"word {seed}", "other"])
        noise = policy.noise([seed, seed + 7])
        for see in (False, True):
            plain, captured = model.sample(condition, noise, sampling, see=see), draw(condition, noise, see=see)
            torch.testing.assert_close(captured.actions, plain.actions, rtol=1e-4, atol=1e-4)
            if see:
                torch.testing.assert_close(captured.video, plain.video, rtol=1e-4, atol=1e-4)
