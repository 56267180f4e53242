import torch

from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint, Levels

LEVELS = Levels.same(torch.tensor(2.0))


def joint(seed: int, frames: int = 5, steps: int = 8) -> Joint:
    generator = torch.Generator().manual_seed(seed)
    return Joint(torch.randn(2, frames, 3, 4, 4, generator=generator), torch.randn(2, steps, 7, generator=generator))


def test_branches_that_agree_are_left_alone():
    answer = joint(0)
    combined = LinearGuidance(1.0, 2.5).combine(answer, answer)
    assert torch.equal(combined.video, answer.video)
    assert torch.equal(combined.actions, answer.actions)


def test_the_scale_grows_evenly_over_frames_and_over_steps():
    c, u = joint(0), joint(1)
    combined = LinearGuidance(1.0, 2.5).guided(lambda x, levels: Joint.cat((c, u)))(joint(2), LEVELS)
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


def test_both_branches_see_the_same_sample_at_the_same_levels():
    seen = []

    def both(x: Joint, levels: Levels) -> Joint:
        seen.append((x, levels))
        return x

    x = joint(0)
    LinearGuidance(1.0, 2.5).guided(both)(x, Levels(torch.tensor([1.0, 2.0]), torch.tensor(3.0)))
    [(doubled, levels)] = seen
    assert torch.equal(doubled.video, torch.cat((x.video, x.video)))
    assert torch.equal(doubled.actions, torch.cat((x.actions, x.actions)))
    assert levels.video.tolist() == [1, 2, 1, 2]
    assert levels.actions == 3
