"""Colour jitter: one change of light and colour for all frames of a view."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from videopolicy.configs import check_limits, limited

# Rec. 601, as television and JPEG weigh red, green and blue.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Jitter:
    """One drawn change.

    Attributes:
        brightness: factor on every pixel.
        contrast: factor on every pixel's distance from its frame's mean grey.
        saturation: factor on every pixel's distance from its own grey.
        hue: turn of the colour wheel, 1 being once around.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def apply(self, frames: UInt8[np.ndarray, "n H W 3"]) -> UInt8[np.ndarray, "n H W 3"]:
        """The changed frames; each depends on itself alone."""
        pixels = np.clip(frames.astype(np.float32) * (self.brightness / 255), 0, 1)
        pixels = _blend((pixels @ LUMA).mean((1, 2))[:, None, None, None], pixels, self.contrast)
        pixels = _blend((pixels @ LUMA)[..., None], pixels, self.saturation)
        return np.rint(_turn(pixels, self.hue) * 255).astype(np.uint8)


@dataclass(frozen=True)
class ColorJitter:
    """How far a `Jitter` may go; the defaults are the paper's.

    Attributes:
        brightness: its factor is drawn evenly from 1 ± this.
        contrast: likewise.
        saturation: likewise.
        hue: the turn is drawn evenly from ± this.
    """

    brightness: float = limited(0.2, 0, 1)
    contrast: float = limited(0.2, 0, 1)
    saturation: float = limited(0.2, 0, 1)
    hue: float = limited(0.05, 0, 0.5)

    def __post_init__(self) -> None:
        check_limits(self, "jitter")

    def draw(self, rng: np.random.Generator) -> Jitter:
        """Draws one change."""
        most = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        brightness, contrast, saturation, hue = (rng.uniform(-1, 1, 4) * most).tolist()
        return Jitter(1 + brightness, 1 + contrast, 1 + saturation, hue)


def _blend(
    anchor: Float32[np.ndarray, "n #H #W 1"], pixels: Float32[np.ndarray, "n H W 3"], factor: float
) -> Float32[np.ndarray, "n H W 3"]:
    return np.clip(anchor + (pixels - anchor) * np.float32(factor), 0, 1)


def _turn(pixels: Float32[np.ndarray, "n H W 3"], hue: float) -> Float32[np.ndarray, "n H W 3"]:
    """Turns the hue, keeping value and chroma (the largest channel, and its distance from the smallest)."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    value = pixels.max(-1)
    chroma = value - pixels.min(-1)
    safe = np.where(chroma > 0, chroma, 1)
    sector = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turned = np.empty_like(pixels)
    for channel, place in enumerate((5, 3, 1)):
        k = (place + sector + np.float32(6 * hue)) % 6
        turned[..., channel] = value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return turned
