"""What stands beside the images on its way into the actions: the robot's state, and actions that are committed."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 128


class VectorEncoder(nn.Module):
    """Adds what some numbers say to the vector of features that a head reads; a fresh one adds nothing.

    Args:
        inputs: n, of the numbers.
        vector: G, of the vector of features.
    """

    def __init__(self, inputs: int, vector: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, vector)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, vector: Float[Tensor, "B G"], numbers: Float[Tensor, "B n"]) -> Float[Tensor, "B G"]:
        """The vector with what the numbers say."""
        return vector + self.last(F.silu(self.first(numbers.to(vector.dtype))))
