"""Latents without training: principal components of square patches, fitted in seconds."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from videopolicy.errors import UserError
from videopolicy.latents.base import Latents

# Far more patches than their 192 dimensions need; more would only take longer.
MAX_PATCHES = 2**18
CHUNK = 64
# A component that varies less than this share of the strongest is treated as if it varied this much: without a
# floor, one that never varied in the fit would be divided by zero.
FLOOR = 1e-4


@dataclass(frozen=True)
class Config:
    """Principal components of patches.

    Attributes:
        patch: side of a patch in pixels; the latents are this much smaller than the frame.
        channels: components kept, at most 3 * patch².
    """

    patch: int = 8
    channels: int = 16

    def build(self) -> "PCA":
        """The latents, still to be fitted.

        Raises:
            UserError: more channels than a patch has values.
        """
        if not 1 <= self.channels <= 3 * self.patch**2:
            raise UserError(
                f"PCA of {self.patch}x{self.patch} patches has 1 to {3 * self.patch**2} channels, not {self.channels}"
            )
        return PCA(self)


class PCA(Latents):
    """Projections of each patch on the principal components of all patches.

    Component k is divided by the square root of its standard deviation, so that the strong components stay stronger,
    but less so than in the pixels; one constant for all then brings the mean variance over channels to 1 (sigma_data).

    Attributes:
        mean: the mean patch, pixels in [-1, 1].
        components: orthonormal, strongest first.
        scale: what each projection is multiplied with; all zero until fitted.
        explained: share of the patches' variance that the components hold.
    """

    mean: Float32[Tensor, "3 p p"]
    components: Float32[Tensor, "C 3 p p"]
    scale: Float32[Tensor, "C"]
    explained: Float32[Tensor, ""]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.channels = self.code_channels = config.channels
        self.downsampling = config.patch
        patch = (3, config.patch, config.patch)
        self.register_buffer("mean", torch.zeros(patch))
        self.register_buffer("components", torch.zeros(config.channels, *patch))
        self.register_buffer("scale", torch.zeros(config.channels))
        self.register_buffer("explained", torch.zeros(()))

    @torch.no_grad()
    def fit(self, frames: UInt8[np.ndarray, "n H W 3"] | UInt8[Tensor, "n H W 3"]) -> None:
        """Fits the components in place, on at most about 260,000 patches of evenly spaced frames.

        Raises:
            UserError: no frames, or a size that is no multiple of the patch.
        """
        frames = torch.as_tensor(frames)
        if not len(frames):
            raise UserError("PCA was given no frames to fit; it needs at least one")
        self.check_size(frames)
        chunks = _subsample(frames, self.downsampling).split(CHUNK)
        size = self.mean.numel()
        total, products, count = torch.zeros(size).double(), torch.zeros(size, size).double(), 0
        # Moments about an arbitrary patch that lies in the data: about zero, bright pictures would cancel digits.
        origin = self._patches(chunks[0])[0]
        for chunk in chunks:
            patches = self._patches(chunk) - origin
            total += patches.sum(0).double()
            products += (patches.T @ patches).double()
            count += len(patches)
        mean = total / count
        self._set(origin.double() + mean, products / count - mean.outer(mean))

    def _set(self, mean: Float[Tensor, "P"], covariance: Float[Tensor, "P P"]) -> None:
        variances, vectors = torch.linalg.eigh(covariance)
        variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1).T
        # An eigenvector's sign is arbitrary; fixed, the same frames give the same latents on every machine.
        vectors = vectors * vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
        kept = variances[: self.channels].sqrt()
        floored = kept.clamp(min=max(FLOOR * float(kept[0]), FLOOR))
        scale = floored.rsqrt()
        power = float((kept * scale).square().mean())
        self.mean.copy_(mean.view_as(self.mean))
        self.components.copy_(vectors[: self.channels].reshape(self.components.shape))
        self.scale.copy_(scale / power**0.5 if power else scale)
        self.explained.copy_(kept.square().sum() / variances.sum() if power else torch.ones(()))

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n C h w"]:
        """Scaled projections of every patch; on the device of the components.

        Raises:
            RuntimeError: not fitted yet.
            UserError: H or W is no multiple of the patch.
        """
        self._check_fitted()
        self.check_size(frames)
        weight = self.components * self.scale[:, None, None, None]
        bias = -(weight * self.mean).sum((1, 2, 3))
        return F.conv2d(_pixels(frames.to(weight.device)), weight, bias, stride=self.downsampling)

    def sample(self, codes: Float[Tensor, "n C h w"], generator: torch.Generator | None) -> Float[Tensor, "n C h w"]:
        """The codes themselves: nothing is random."""
        return codes

    def condition(self, codes: Float[Tensor, "n C h w"]) -> Float[Tensor, "n C h w"]:
        """The codes themselves."""
        return codes

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "n C h w"]) -> UInt8[Tensor, "n H W 3"]:
        """Frames of these projections, rounded and clipped to 0 to 255."""
        self._check_fitted()
        weight = self.components / self.scale[:, None, None, None]
        pixels = F.conv_transpose2d(latents.to(weight), weight, stride=self.downsampling)
        pixels = pixels + self.mean.repeat(1, *latents.shape[-2:])
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def _patches(self, frames: UInt8[Tensor, "n H W 3"]) -> Float32[Tensor, "m P"]:
        patches = F.unfold(_pixels(frames), self.downsampling, stride=self.downsampling)
        return patches.transpose(1, 2).flatten(0, 1)

    def _check_fitted(self) -> None:
        if not self.scale.any():
            raise RuntimeError("PCA latents are used before they were fitted: call fit(frames) or load a state")


def _pixels(frames: UInt8[Tensor, "n H W 3"]) -> Float32[Tensor, "n 3 H W"]:
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def _subsample(frames: UInt8[Tensor, "n H W 3"], patch: int) -> UInt8[Tensor, "m H W 3"]:
    most = max(1, MAX_PATCHES // (frames.shape[1] * frames.shape[2] // patch**2))
    if len(frames) <= most:
        return frames
    return frames[torch.linspace(0, len(frames) - 1, most).long()]
