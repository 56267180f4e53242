"""The contract of a head: features and noisy actions in, denoised actions out."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Reads actions out of a backbone's features.

    Attributes:
        multiple: the length of a chunk is a multiple of this.
        width: length G of the vector of features.
    """

    multiple: int = 1
    width: int

    @abstractmethod
    def adapt(self, taps: tuple[Float[Tensor, "B V T _ _ _"], ...], time: Float[Tensor, "B E"]) -> Float[Tensor, "B G"]:
        """Features of every view's future frames -> one vector a clip."""

    @abstractmethod
    def forward(
        self, actions: Float[Tensor, "B A D"], features: Float[Tensor, "B G"], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B A D"]:
        """One pass of the action denoiser over noisy actions that are already scaled by c_in."""
