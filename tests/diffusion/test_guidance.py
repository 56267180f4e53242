import pytest
import torch

from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels

LEVELS = Levels.same(torch.tensor(2.0))


def joint(seed: int, frames: int = 5, steps: int = 8) -> Joint:
    generator = torch.Generator().manual_seed(seed)
    return Joint(torch.randn(2, frames, 3, 4, 4, generator=generator), torch.randn(2, steps, 7, generator=generator))


def never(x: Joint, levels: Levels) -> Joint:
    raise AssertionError("the unconditional branch was computed")


def test_a_scale_of_one_never_computes_the_unconditional_branch():
    answer = joint(0)
    guided = LinearGuidance(1.0, 1.0).guided(lambda x, levels: answer, never)
    assert guided(joint(1), LEVELS) is answer


@pytest.mark.parametrize("ends", [(1.0, 2.5), (2.5, 1.0)])
def test_one_end_at_one_is_still_guided(ends):
    with pytest.raises(AssertionError, match="was computed"):
        LinearGuidance(*ends).guided(lambda x, levels: x, never)(joint(1), LEVELS)


def test_branches_that_agree_are_left_alone():
    answer = joint(0)
    combined = LinearGuidance(1.0, 2.5).combine(answer, answer)
    assert torch.equal(combined.video, answer.video)
    assert torch.equal(combined.actions, answer.actions)


def test_the_scale_grows_evenly_over_frames_and_over_steps():
    c, u = joint(0), joint(1)
    combined = LinearGuidance(1.0, 2.5).guided(lambda x, s: c, lambda x, s: u)(joint(2), LEVELS)
    for frame, scale in enumerate([1.0, 1.375, 1.75, 2.125, 2.5]):
        expected = torch.lerp(u.video[:, frame], c.video[:, frame], scale)
        torch.testing.assert_close(combined.video[:, frame], expected, rtol=1e-5, atol=1e-5)
    for step in range(8):
        expected = torch.lerp(u.actions[:, step], c.actions[:, step], 1 + 1.5 * step / 7)
        torch.testing.assert_close(combined.actions[:, step], expected, rtol=1e-5, atol=1e-5)


def test_a_single_frame_takes_the_first_scale():
    c, u = joint(0, frames=1, steps=1), joint(1, frames=1, steps=1)
    combined = LinearGuidance(3.0, 9.0).combine(c, u)
    torch.testing.assert_close(combined.video, u.video + 3 * (c.video - u.video))
