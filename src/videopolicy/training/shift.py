"""Random shifts of a clip's images: crops of padded ones (Kostrikov et al. 2020, DrQ, arXiv 2004.13649)."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int64
from torch import Tensor

from videopolicy.clips.dataset import ClipBatch


def shifted(batch: ClipBatch, shift: Int64[Tensor, "B V 2"]) -> ClipBatch:
    """The clips with their images shifted.

    Codes are shifted by whole latent pixels, which is the code of a shifted image wherever an encoder works on every
    patch alike. What a clip shows now and later is shifted alike, so that nothing seems to move.

    Args:
        batch: the clips.
        shift: of each view's images, down and to the right, in latent pixels.
    """
    if not shift.any():
        return batch
    by = shift.numpy()
    return replace(batch, current=shift_codes(batch.current, by), future=shift_codes(batch.future, by))


def shift_codes(
    codes: Float32[np.ndarray, "B V *n h w"], shift: Int64[np.ndarray, "B V 2"]
) -> Float32[np.ndarray, "B V *n h w"]:
    """Each view's codes shifted down and to the right, with their edges repeated."""
    clips, views, *between, height, width = codes.shape
    ones = [1] * len(between)
    rows = (np.arange(height) - shift[..., :1]).clip(0, height - 1).reshape(clips, views, *ones, height, 1)
    columns = (np.arange(width) - shift[..., 1:]).clip(0, width - 1).reshape(clips, views, *ones, 1, width)
    return np.take_along_axis(np.take_along_axis(codes, rows, -2), columns, -1)
