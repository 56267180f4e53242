"""The robot's state on its way into the actions."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 128


class StateEncoder(nn.Module):
    """Adds what the robot's state says to the vector of features that a head reads; a fresh one adds nothing.

    Args:
        width: S, of the state.
        vector: G, of the vector of features.
    """

    def __init__(self, width: int, vector: int) -> None:
        super().__init__()
        # Beside the state stands a 1 where it is known.
        self.first, self.last = nn.Linear(width + 1, HIDDEN), nn.Linear(HIDDEN, vector)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, vector: Float[Tensor, "B G"], state: Float[Tensor, "B _"]) -> Float[Tensor, "B G"]:
        """The vector with what the state (see `Condition.state`) says."""
        return vector + self.last(F.silu(self.first(state.to(vector.dtype))))
