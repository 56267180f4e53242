import math

import pytest
import torch
from tests.golden.fill import golden, noise
from tests.golden.standin import StandIn

from videopolicy.diffusion.edm import Scaling
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.loss import Counts, Losses, denoising_loss

SIGMA = torch.tensor([0.3, 1.0, 40.0], dtype=torch.float64)
LEVELS = Levels.same(SIGMA)


def counting(clips: int, frames: int, steps: int, has_actions: list[bool] | None = None) -> Counts:
    acting = torch.ones(clips, dtype=torch.bool) if has_actions is None else torch.tensor(has_actions)
    return Counts(torch.ones(clips, frames, dtype=torch.bool), acting[:, None].expand(clips, steps))


EVERYTHING = counting(3, 5, 6)


def pooled(losses: Losses) -> torch.Tensor:
    """One mean over all frames and steps that count, as the paper's authors take it."""
    counted = losses.counts.video.sum() + losses.counts.actions.sum()
    return (losses.video.sum() + losses.actions.sum()) / counted


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
    levels = Levels.same(sigma)
    losses = denoising_loss(network(clean + levels * pair("_noise"), levels), clean, levels, counting(2, 25, 32))
    parts = (losses.video, "video_per_frame"), (losses.actions, "action_per_step"), (pooled(losses), "mean")
    for ours, name in parts:
        torch.testing.assert_close(ours.flatten(), stored[f"loss.{name}"], rtol=1e-5, atol=1e-5)


def test_a_network_that_predicts_v_has_no_loss():
    clean, added = joint(0), joint(1)
    c = Scaling()(SIGMA)
    v = (added - SIGMA * clean) * c.inp
    losses = denoising_loss((clean + SIGMA * added) * c.skip + v * c.out, clean, LEVELS, EVERYTHING)
    assert losses.video.dtype == torch.float64
    assert float(pooled(losses)) < 1e-20


def test_the_loss_is_the_squared_error_of_the_network():
    clean, added, wrong = joint(0), joint(1), joint(2)
    c = Scaling()(SIGMA)
    v = (added - SIGMA * clean) * c.inp
    losses = denoising_loss((clean + SIGMA * added) * c.skip + (v + wrong) * c.out, clean, LEVELS, EVERYTHING)
    torch.testing.assert_close(losses.video, wrong.video.square().mean(dim=(2, 3, 4)))
    torch.testing.assert_close(losses.actions, wrong.actions.square().mean(dim=2))


def masked(has_actions: list[bool], filler: float = math.nan) -> tuple[Losses, Joint]:
    """Losses where the actions that do not exist hold a filler, and the gradients on the answer."""
    mask, clean, answer = torch.tensor(has_actions), joint(0), joint(1).map(torch.Tensor.requires_grad_)
    clean = Joint(clean.video, torch.where(mask[:, None, None], clean.actions, filler))
    losses = denoising_loss(answer, clean, LEVELS, counting(3, 5, 6, has_actions))
    (losses.mean_video + losses.mean_actions + pooled(losses)).backward()
    return losses, answer.map(lambda part: part.grad)


def test_actions_that_do_not_exist_count_for_nothing():
    losses, gradients = masked([True, False, True])
    everywhere = denoising_loss(joint(1), joint(0), LEVELS, EVERYTHING)
    assert (losses.actions[1] == 0).all()
    torch.testing.assert_close(losses.mean_actions, everywhere.actions[[0, 2]].mean())
    torch.testing.assert_close(losses.mean_video, everywhere.mean_video)
    together = torch.cat([everywhere.video.flatten(), everywhere.actions[[0, 2]].flatten()])
    torch.testing.assert_close(pooled(losses), together.mean())
    assert (gradients.actions[1] == 0).all()
    assert (gradients.actions[[0, 2]] != 0).all()
    assert (gradients.video[1] != 0).all()


@pytest.mark.parametrize("filler", [0.0, math.nan, math.inf])
def test_a_batch_without_any_actions_still_trains_the_video(filler):
    losses, gradients = masked([False, False, False], filler)
    assert losses.mean_actions.item() == 0
    torch.testing.assert_close(pooled(losses), losses.mean_video)
    assert (gradients.actions == 0).all()
    assert gradients.video.isfinite().all()
    assert (gradients.video != 0).all()


def test_a_video_that_does_not_count_has_no_loss_and_sends_nothing_back():
    answer, clean = joint(1).map(torch.Tensor.requires_grad_), joint(0)
    clean = Joint(torch.full_like(clean.video, math.nan), clean.actions)
    counts = Counts(torch.zeros(3, 5, dtype=torch.bool), EVERYTHING.actions)
    losses = denoising_loss(answer, clean, LEVELS, counts)
    assert losses.mean_video == 0 and not losses.video.any()
    (losses.mean_video + losses.mean_actions).backward()
    assert not answer.video.grad.any() and answer.actions.grad.all()


def test_given_actions_do_not_count_and_the_others_do_as_if_alone():
    """A prefix that is already committed is a mask over steps."""
    given = EVERYTHING.actions.clone()
    given[:, :2] = False
    losses = denoising_loss(joint(1), joint(0), LEVELS, Counts(EVERYTHING.video, given))
    everywhere = denoising_loss(joint(1), joint(0), LEVELS, EVERYTHING)
    assert not losses.actions[:, :2].any()
    torch.testing.assert_close(losses.mean_actions, everywhere.actions[:, 2:].mean())


def test_the_loss_of_a_clip_is_the_mean_over_what_counts_in_it():
    counts = Counts(torch.tensor([[True] * 3, [False] * 3]), torch.tensor([[False, True], [True, True]]))
    losses = Losses(torch.tensor([[1.0, 2, 3], [0, 0, 0]]), torch.tensor([[0.0, 4], [1, 2]]), counts, LEVELS)
    assert [part.tolist() for part in losses.by_clip()] == [[2, 0], [4, 1.5]]


def test_each_part_weighs_by_its_own_level():
    other = torch.tensor([2.0, 0.5, 7.0], dtype=torch.float64)
    losses = denoising_loss(joint(1), joint(0), Levels(SIGMA, other), EVERYTHING)
    same, swapped = (denoising_loss(joint(1), joint(0), Levels.same(s), EVERYTHING) for s in (SIGMA, other))
    assert torch.equal(losses.video, same.video) and torch.equal(losses.actions, swapped.actions)
