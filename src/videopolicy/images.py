"""The one way in which an image becomes as large as a model sees it: data, robots, reports and diagnoses share it."""

import numpy as np
from PIL import Image as Pictures

from videopolicy.types import Frames


def fit_to_size(frames: Frames, size: int) -> Frames:
    """The middle square of each frame at another size; frames that are so already are returned as they are.

    Smaller frames are area averages: each pixel is the mean of what it covers. Larger ones are interpolated (bicubic).

    Args:
        frames: (N, H, W, 3).
        size: pixels on each side.

    Returns:
        (N, size, size, 3).
    """
    height, width = frames.shape[1:3]
    if height == width == size:
        return frames
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    how = Pictures.Resampling.BOX if size <= side else Pictures.Resampling.BICUBIC
    fitted = [np.asarray(Pictures.fromarray(frame).resize((size, size), how, box)) for frame in frames]
    return np.stack(fitted) if fitted else np.empty((0, size, size, 3), np.uint8)
