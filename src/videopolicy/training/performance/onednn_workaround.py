"""A way around wrong gradients of 3-D convolutions in bfloat16 on a CPU."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def never_two_frames(model: nn.Module) -> None:
    """Gives convolutions over time a third frame of zeros whenever they see two: the same result, right gradients.

    Of two frames, oneDNN's bfloat16 gradient of the weights reads memory that nobody wrote (torch 2.13). Such a
    convolution pads with a frame of zeros there anyway.

    Args:
        model: its convolutions change in place; the names of the weights stay.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and (module.kernel_size[0], module.padding[0], module.stride[0]) == (3, 1, 1):
            module.forward = partial(_over_three, module.forward)


def _over_three(convolve: Callable[[Tensor], Tensor], input: Float[Tensor, "B c T h w"]) -> Float[Tensor, "B d T y x"]:
    if input.shape[2] != 2:
        return convolve(input)
    return convolve(F.pad(input, (0, 0, 0, 0, 0, 1)))[:, :, :2]
