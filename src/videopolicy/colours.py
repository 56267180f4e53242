"""Pixels of pictures and pictures of pixels, by the matrix and the range that a file names, whatever PyAV's version.

A file that names no matrix is BT.601 at any height: FFmpeg takes it so, and those who write and read robots' data
with FFmpeg do. One that names no range is limited, unless its format says more. Ours are BT.601, limited, and say so.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from videopolicy.errors import UserError
from videopolicy.types import Image

# ITU-T H.273, table 4: what a file calls its matrix; and what FFmpeg's conversion calls it.
_MATRICES = {0: 5, 1: 1, 2: 5, 3: 5, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_BT601 = 5
# What ours say in the terms of H.273: BT.601's matrix on sRGB's primaries and transfer.
_OUR_MATRIX, _OUR_PRIMARIES, _OUR_TRANSFER = 6, 1, 13


class Colours:
    """Converts the pictures of one file.

    Args:
        path: the file, for errors.
    """

    def __init__(self, path: Path):
        self._path = path
        # One for each matrix and range, as before PyAV 17 a conversion that was once prepared keeps those of its first
        # picture. They are kept, as `VideoFrame.to_ndarray` prepares the conversion anew for every picture.
        self._reformatters: defaultdict[tuple[int, int], VideoReformatter] = defaultdict(VideoReformatter)

    def pixels(self, picture: VideoFrame) -> Image:
        """A decoded picture in RGB, (H, W, 3).

        Raises:
            UserError: its matrix is none that FFmpeg converts.
        """
        matrix = _MATRICES.get(picture.colorspace)
        if matrix is None:
            wrong = f"its colours are coded by matrix {picture.colorspace} of ITU-T H.273, which is not read here"
            raise UserError(f"{self._path}: {wrong}; encode it anew in BT.709 or BT.601")
        # Before 17, PyAV heeds matrix and range only where those of the source and of the result differ, though RGB
        # has neither.
        span = _range(picture)
        return (
            self._reformatters[matrix, span]
            .reformat(
                picture,
                format="rgb24",
                src_colorspace=matrix,
                src_color_range=span,
                dst_colorspace=_BT601,
                dst_color_range=ColorRange.UNSPECIFIED,
            )
            .to_ndarray()
        )

    def picture(self, pixels: Image, format: str) -> VideoFrame:
        """A picture to be encoded.

        Args:
            pixels: RGB, (H, W, 3).
            format: FFmpeg's name of how it is laid out, "yuv420p" or "yuv444p".
        """
        return self._reformatters[_BT601, ColorRange.MPEG].reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            format=format,
            dst_colorspace=_BT601,
            dst_color_range=ColorRange.MPEG,
        )


def label(context: VideoCodecContext) -> None:
    """Has an encoder write what `Colours.picture` gives it, so that every reader takes it so."""
    context.colorspace, context.color_range = _OUR_MATRIX, ColorRange.MPEG
    context.color_primaries, context.color_trc = _OUR_PRIMARIES, _OUR_TRANSFER


def _range(picture: VideoFrame) -> ColorRange:
    # Formats called so are JPEG's; a grey picture has no room beside black and white.
    if picture.format.name.startswith("yuvj") or len(picture.format.components) == 1:
        return ColorRange.JPEG
    return ColorRange.JPEG if picture.color_range == ColorRange.JPEG else ColorRange.MPEG
