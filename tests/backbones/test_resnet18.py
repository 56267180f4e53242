import pytest
import torch

from videopolicy.backbones import resnet18
from videopolicy.backbones.base import Condition
from videopolicy.backbones.resnet18 import spatial_softmax
from videopolicy.errors import UserError


def given(side=8, clips=2):
    generator = torch.Generator().manual_seed(side)
    latents = torch.randn((clips, 1, 4, side, side), generator=generator)
    text = torch.randn((clips, 3, 16), generator=generator)
    return torch.zeros_like(latents), torch.ones(clips), Condition(latents, text)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 6), (4, 0), (2, 3), (1, 5)])
def test_a_single_bright_pixel_is_found_where_it_is(row, column):
    maps = torch.zeros(1, 2, 5, 7)
    maps[0, 0, row, column] = 100
    (x, y), nowhere = spatial_softmax(maps)[0]
    assert (x.item(), y.item()) == pytest.approx((column / 3 - 1, row / 2 - 1), abs=1e-5)
    assert nowhere.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_two_equally_bright_pixels_are_met_in_the_middle():
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 0, 0] = maps[0, 0, 4, 2] = 50
    assert spatial_softmax(maps)[0, 0].tolist() == pytest.approx([-0.5, 0], abs=1e-5)


def test_a_picture_is_encoded_the_same_whatever_is_trained_beside_it():
    backbone = resnet18.EXAMPLE.build(4, 16).train()
    video, sigma, condition = given()
    both = backbone.denoise(video, sigma, condition)[1].taps[0]
    alone = backbone.denoise(video[:1], sigma[:1], Condition(condition.latents[:1], condition.text[:1]))[1].taps[0]
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)


def test_as_it_comes_it_has_the_convolutions_of_a_resnet_18():
    with torch.device("meta"):
        backbone = resnet18.Config().build(12, 16)
    levels = [module for module in backbone.levels.modules() if isinstance(module, torch.nn.Conv2d)]
    # Two in each of eight blocks, and one where each level but the first begins; torchvision's have as many weights.
    assert len(levels) == 19 and sum(module.weight.numel() for module in levels) == 11_157_504
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())


def test_latents_of_which_one_pixel_would_be_left_are_refused():
    with pytest.raises(UserError, match="a ResNet of 2 levels leaves one pixel of latents of 2x2"):
        resnet18.EXAMPLE.build(4, 16).denoise(*given(side=2))
    with pytest.raises(UserError, match=r"multiples of 16, not \(24,\)"):
        resnet18.Config(channels=(24,))
