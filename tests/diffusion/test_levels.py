import pytest
import torch

from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise import independent, joint, pinned
from videopolicy.errors import UserError


def test_levels_scale_each_part_by_its_own():
    x = Joint(torch.ones(2, 3, 4, 5, 5), torch.ones(2, 6, 7))
    levels = Levels(torch.tensor([2.0, 3.0]), torch.tensor([5.0, 7.0]))
    scaled, back = x * levels, x * levels / levels
    assert torch.equal(scaled.video, x.video * torch.tensor([2.0, 3.0])[:, None, None, None, None])
    assert torch.equal(scaled.actions, x.actions * torch.tensor([5.0, 7.0])[:, None, None])
    assert torch.equal((levels * x).actions, scaled.actions)
    assert torch.equal(back.video, x.video) and torch.equal(back.actions, x.actions)


def test_a_schedule_is_its_levels_one_after_the_other():
    schedule = Levels(torch.tensor([8.0, 4.0, 0.0]), torch.tensor([6.0, 3.0, 0.0]))
    assert len(schedule) == 3
    assert [(float(level.video), float(level.actions)) for level in schedule] == [(8, 6), (4, 3), (0, 0)]
    step, ratio = schedule[1] - schedule[0], schedule[1] / schedule[0]
    assert (float(step.video), float(step.actions)) == (-4, -3)
    assert (float((1 - ratio).video), float((ratio / 2).actions)) == (0.5, 0.25)


def test_what_is_read_is_the_video_unless_its_features_come_from_another_pass():
    video, actions = torch.tensor([1.0]), torch.tensor([2.0])
    assert Levels(video, actions).read().video is video
    read = Levels(video, actions, torch.tensor([80.0])).read()
    assert read.features is None and read.video == 80 and read.actions is actions


def test_which_pairs_the_laws_cover():
    same = Levels.same(torch.tensor([0.1, 3.0]))
    laws = (joint.Config(), independent.Config(), pinned.Config(sigma=80.0))
    pure = Levels(torch.tensor([80.0, 80.0]), torch.tensor([0.1, 80.0]))
    assert [law.covers(same) for law in laws] == [True, True, False]
    assert [law.covers(pure) for law in laws] == [False, True, True]
    assert not pinned.Config(sigma=40.0).covers(pure)


def test_pinned_reads_where_sampling_starts_unless_it_is_told():
    law = pinned.Config()
    with pytest.raises(UserError, match="needs the level"):
        law.covers(Levels.same(torch.ones(1)))
    assert law.resolve(10.0) == pinned.Config(sigma=10.0)
    assert pinned.Config(sigma=40.0).resolve(10.0) == pinned.Config(sigma=40.0)
    assert joint.Config().resolve(10.0) == joint.Config()


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan")])
def test_a_level_to_pin_the_video_at_is_above_zero(sigma):
    with pytest.raises(UserError, match="a noise level is above 0"):
        pinned.Config(sigma=sigma)
