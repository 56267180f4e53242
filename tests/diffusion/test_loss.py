import math

import pytest
import torch
from tests.golden.fill import golden, noise
from tests.golden.standin import StandIn

from videopolicy.diffusion.edm import Scaling
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.loss import Losses, denoising_loss

SIGMA = torch.tensor([0.3, 1.0, 40.0], dtype=torch.float64)


def joint(seed: int) -> Joint:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(3, 5, 2, 4, 4, generator=generator, dtype=torch.float64)
    return Joint(video, torch.randn(3, 6, 7, generator=generator, dtype=torch.float64))


def test_golden_loss():
    stored, sigma = golden("diffusion"), (1.0 + 1.6 * noise("loss/log_sigma_normal", (2,))).exp()
    torch.testing.assert_close(sigma, stored["loss.sigma"], rtol=1e-5, atol=0)

    def pair(suffix: str) -> Joint:
        video = noise(f"loss/video{suffix}", (50, 4, 8, 8)).reshape(2, 25, 4, 8, 8)
        return Joint(video, noise(f"loss/action{suffix}", (64, 7)).reshape(2, 32, 7))

    concat = noise("loss/concat", (50, 4, 8, 8)).reshape(2, 25, 4, 8, 8)
    network = StandIn(concat, noise("loss/context", (50, 1, 16)).reshape(2, 25, 1, 16))
    clean = pair("")
    losses = denoising_loss(network(clean + sigma * pair("_noise"), sigma), clean, sigma)
    for ours, name in ((losses.video, "video_per_frame"), (losses.actions, "action_per_step"), (losses.mean, "mean")):
        torch.testing.assert_close(ours.flatten(), stored[f"loss.{name}"], rtol=1e-5, atol=1e-5)


def test_a_network_that_predicts_v_has_no_loss():
    clean, added = joint(0), joint(1)
    c = Scaling()(SIGMA)
    v = (added - SIGMA * clean) * c.inp
    losses = denoising_loss((clean + SIGMA * added) * c.skip + v * c.out, clean, SIGMA)
    assert losses.video.dtype == torch.float64
    assert float(losses.mean) < 1e-20


def test_the_loss_is_the_squared_error_of_the_network():
    clean, added, wrong = joint(0), joint(1), joint(2)
    c = Scaling()(SIGMA)
    v = (added - SIGMA * clean) * c.inp
    losses = denoising_loss((clean + SIGMA * added) * c.skip + (v + wrong) * c.out, clean, SIGMA)
    torch.testing.assert_close(losses.video, wrong.video.square().mean(dim=(2, 3, 4)))
    torch.testing.assert_close(losses.actions, wrong.actions.square().mean(dim=2))


def masked(has_actions: list[bool], filler: float = math.nan) -> tuple[Losses, Joint]:
    """Losses where the actions that do not exist hold a filler, and the gradients on the answer."""
    mask, clean, answer = torch.tensor(has_actions), joint(0), joint(1).map(torch.Tensor.requires_grad_)
    clean = Joint(clean.video, torch.where(mask[:, None, None], clean.actions, filler))
    losses = denoising_loss(answer, clean, SIGMA, mask)
    (losses.mean_video + losses.mean_actions + losses.mean).backward()
    return losses, answer.map(lambda part: part.grad)


def test_actions_that_do_not_exist_count_for_nothing():
    losses, gradients = masked([True, False, True])
    everywhere = denoising_loss(joint(1), joint(0), SIGMA)
    assert (losses.actions[1] == 0).all()
    torch.testing.assert_close(losses.mean_actions, everywhere.actions[[0, 2]].mean())
    torch.testing.assert_close(losses.mean_video, everywhere.mean_video)
    together = torch.cat([everywhere.video.flatten(), everywhere.actions[[0, 2]].flatten()])
    torch.testing.assert_close(losses.mean, together.mean())
    assert (gradients.actions[1] == 0).all()
    assert (gradients.actions[[0, 2]] != 0).all()
    assert (gradients.video[1] != 0).all()


@pytest.mark.parametrize("filler", [0.0, math.nan, math.inf])
def test_a_batch_without_any_actions_still_trains_the_video(filler):
    losses, gradients = masked([False, False, False], filler)
    assert losses.mean_actions.item() == 0
    torch.testing.assert_close(losses.mean, losses.mean_video)
    assert (gradients.actions == 0).all()
    assert gradients.video.isfinite().all()
    assert (gradients.video != 0).all()


def test_no_mask_is_a_mask_of_ones():
    unmasked, ones = denoising_loss(joint(1), joint(0), SIGMA), masked([True, True, True])[0]
    assert torch.equal(unmasked.actions, ones.actions)
    assert torch.equal(unmasked.mean_actions, ones.mean_actions)
    assert torch.equal(unmasked.mean, ones.mean)
