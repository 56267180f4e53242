"""The space in which frames are compared: principal components of small patches of the demonstrations' frames.

What an imagined frame lacks in sharpness counts for little there, where it shows things counts for much; and numbers
of one data set mean the same for every policy, whatever latents that has.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.images import fit_to_size
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
        size: pixels on each side of the squares that every frame is fitted to.
        explained: share of the variance of the demonstrations' patches that the codes hold.
    """

    def __init__(self, views: Sequence[str], size: int, components: pca.PCA) -> None:
        self.views, self.size = tuple(views), size
        self.explained = float(components.explained)
        self._components = components

    @classmethod
    def fit(cls, views: Sequence[str], episodes: Iterable[Mapping[str, Frames]]) -> "FeatureSpace":
        """The space of these episodes' frames; there is at least one."""
        videos = [episode[view] for episode in episodes for view in views]
        side = min(SIDE, *videos[0].shape[1:3])
        size = max(_PCA.patch, side // _PCA.patch * _PCA.patch)
        every = max(1, sum(map(len, videos)) // _FITTED)
        components = _PCA.build()
        components.fit(torch.from_numpy(np.concatenate([fit_to_size(frames[::every], size) for frames in videos])))
        return cls(views, size, components)

    def encode(self, frames: Mapping[str, Frames]) -> Float[Tensor, "n K h w"]:
        """Codes of all views' frames of the same moments, one view's channels after the other's; 16-bit floats."""
        fitted = [torch.from_numpy(fit_to_size(frames[view], self.size)) for view in self.views]
        return torch.cat([self._components.encode(pictures) for pictures in fitted], dim=1).half()
