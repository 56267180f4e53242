"""How the current images and the flat frames of several views become the one video that a transformer sees."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Arranged = Literal["width", "time"]


@dataclass(frozen=True)
class Arrangement:
    """Views side by side in one picture ("width"), or one after the other ("time"); behind their current images.

    Side by side, the video has 1 + F / V frames, V times as wide, of which the first is clean; one after the other it
    has V + F frames, of which the first V are.

    Attributes:
        how: "width" or "time".
        views: V, of as many of the flat frames each.
        drawn: whether the current images are drawn as well: the first V flat frames, before those of all views.
    """

    how: Arranged
    views: int = 1
    drawn: bool = False

    def clean(self) -> int:
        """Frames at the beginning of the video that hold the current images."""
        return 1 if self.how == "width" else self.views

    def first(self, latents: Float[Tensor, "B F Q h w"]) -> Float[Tensor, "B V Q h w"]:
        """Of each view what its first flat frame is given."""
        if self.drawn:
            return latents[:, : self.views]
        return latents.unflatten(1, (self.views, -1))[:, :, 0]

    def join(
        self, current: Float[Tensor, "B V C h w"], video: Float[Tensor, "B F C h w"]
    ) -> Float[Tensor, "B C T h W"]:
        """The current images of the views, and all other flat frames, as one video."""
        if self.how == "time":
            return torch.cat((current, video), 1).transpose(1, 2)
        each = torch.cat((current[:, :, None], video.unflatten(1, (self.views, -1))), 2)
        # B V T C h w -> B C T h V w
        return each.permute(0, 3, 2, 4, 1, 5).flatten(4)

    def split(self, whole: Float[Tensor, "B C T h W"]) -> Float[Tensor, "B F C h w"]:
        """The flat frames of such a video, without the current images unless they are drawn."""
        current, future = whole.tensor_split((self.clean(),), 2)
        return torch.cat((self._flat(current), self._flat(future)), 1) if self.drawn else self._flat(future)

    def _flat(self, part: Float[Tensor, "B C t h W"]) -> Float[Tensor, "B F C h w"]:
        if self.how == "time":
            return part.transpose(1, 2)
        # B C t h V w -> B V t C h w
        return part.unflatten(4, (self.views, -1)).permute(0, 4, 2, 1, 3, 5).flatten(1, 2)
