"""The space in which frames are compared: principal components of small patches of the demonstrations' frames.

What an imagined frame lacks in sharpness counts for little there, where it shows things counts for much; and numbers
of one data set mean the same for every policy, whatever latents that has.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from videopolicy.latents import pca
from videopolicy.types import Frames

# Larger frames are shrunk to this side: what matters for a task is larger than what is lost.
SIDE = 64
_PCA = pca.Config(patch=4, channels=8)
# Frames to fit the components to: thousands of patches each.
_FITTED = 512


class FeatureSpace:
    """Frames of several views as codes; see `fit`.

    Attributes:
        views: whose frames are encoded, in this order.
        size: height and width that every frame is brought to.
        explained: share of the variance of the demonstrations' patches that the codes hold.
    """

    def __init__(self, views: Sequence[str], size: tuple[int, int], components: pca.PCA) -> None:
        self.views, self.size = tuple(views), size
        self.explained = float(components.explained)
        self._components = components

    @classmethod
    def fit(cls, views: Sequence[str], episodes: Iterable[Mapping[str, Frames]]) -> "FeatureSpace":
        """The space of these episodes' frames; there is at least one."""
        pictures = [torch.from_numpy(episode[view]) for episode in episodes for view in views]
        height, width = (max(_PCA.patch, min(SIDE, side) // _PCA.patch * _PCA.patch) for side in pictures[0].shape[1:3])
        every = max(1, sum(map(len, pictures)) // _FITTED)
        components = _PCA.build()
        components.fit(torch.cat([_sized(frames[::every], (height, width)) for frames in pictures]))
        return cls(views, (height, width), components)

    def encode(self, frames: Mapping[str, Frames]) -> Float[Tensor, "n K h w"]:
        """Codes of all views' frames of the same moments, one view's channels after the other's; 16-bit floats."""
        sized = [_sized(torch.from_numpy(frames[view]), self.size) for view in self.views]
        return torch.cat([self._components.encode(pictures) for pictures in sized], dim=1).half()


def _sized(pictures: UInt8[Tensor, "n H W 3"], size: tuple[int, int]) -> UInt8[Tensor, "n h w 3"]:
    if tuple(pictures.shape[1:3]) == size:
        return pictures
    averaged = adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2).float(), size)
    return averaged.round().to(torch.uint8).permute(0, 2, 3, 1)
