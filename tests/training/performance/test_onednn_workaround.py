import pytest
import torch
from torch import nn

from videopolicy.training.performance.onednn_workaround import never_two_frames

KERNELS = [((3, 1, 1), (1, 0, 0)), (3, 1)]


def gradients(convolution, frames, dtype):
    weights = convolution.to(dtype)
    shown = frames.to(dtype).requires_grad_()
    out = weights(shown)
    pull = torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(dtype)
    return out.float(), *(g.float() for g in torch.autograd.grad(out, [shown, *weights.parameters()], pull))


@pytest.mark.parametrize(("kernel", "padding"), KERNELS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_bfloat16_gradients_are_right_whatever_the_number_of_frames(kernel, padding, count):
    convolution = nn.Conv3d(32, 32, kernel, padding=padding)
    frames = torch.linspace(-1, 1, 32 * count * 16).sin().reshape(1, 32, count, 4, 4)
    exact = gradients(convolution, frames, torch.float32)
    never_two_frames(convolution)
    for _ in range(4):
        # Memory that it would read is NaN, for a start.
        for size in (64, 1000, 3072, 27648, 10**5):
            torch.full((size,), torch.nan)
        found = gradients(convolution, frames, torch.bfloat16)
        for right, value in zip(exact, found, strict=True):
            assert (value - right).abs().max() < 0.02 * right.abs().max()


def test_in_float32_nothing_changes():
    convolution, frames = nn.Conv3d(4, 4, 3, padding=1), torch.ones(1, 4, 2, 3, 3)
    before, names = gradients(convolution, frames, torch.float32), list(convolution.state_dict())
    never_two_frames(convolution)
    for old, new in zip(before, gradients(convolution, frames, torch.float32), strict=True):
        torch.testing.assert_close(old, new)
    assert list(convolution.state_dict()) == names


def test_a_convolution_that_drops_frames_stays_as_it_is():
    convolution = nn.Conv3d(4, 4, 3, padding=1, stride=(2, 1, 1))
    never_two_frames(convolution)
    assert convolution(torch.ones(1, 4, 2, 3, 3)).shape[2] == 1
