"""Principal components of square patches, scaled for a denoiser: what the PCA latents are made of."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from videopolicy.errors import UserError

# Far more patches than their 192 dimensions need; more would only take longer.
MAX_PATCHES = 2**18
CHUNK = 64
# A component that varies less than this share of the strongest is treated as if it varied this much: without a
# floor, one that never varied in the fit would be divided by zero.
FLOOR = 1e-4


class Components(nn.Module):
    """Projections of each patch on the principal components of all patches.

    Component k is divided by the square root of its standard deviation, so that the strong components stay stronger,
    but less so than in the pixels; one constant for all then brings the mean variance over channels to 1 (sigma_data).
    Components beyond these channels have the same scale, and do not change that of the others.

    Attributes:
        still: whether each place of a picture has a mean of its own.
        mean: the mean patch, pixels in [-1, 1]; of a camera that stands still the mean picture, (c, H, W).
        components: orthonormal, strongest first.
        scale: what each projection is multiplied with; all zero until fitted.
        explained: share of the patches' variance that the C components hold.
    """

    mean: Float32[Tensor, "c _ _"]
    components: Float32[Tensor, "K c p p"]
    scale: Float32[Tensor, "K"]
    explained: Float32[Tensor, ""]

    def __init__(self, planes: int, patch: int, channels: int, still: bool = False, beyond: int = 0) -> None:
        """Components that are yet to be fitted.

        Args:
            planes: c, of a picture: 3 of an RGB image, more of several frames on top of each other.
            patch: p, side of a patch in pixels.
            channels: C, components kept.
            still: whether each place of a picture has a mean of its own, as suits a camera that stands still: what
                never changes there is then 0, and the components are those of what does.
            beyond: components kept beyond these, weaker ones; K = C + beyond.

        Raises:
            UserError: more channels than a patch has values.
        """
        super().__init__()
        self.still, self._patch, self._channels = still, patch, channels
        kept = channels + beyond
        if not 1 <= kept <= planes * patch**2:
            over = "" if planes == 3 else f" over {planes // 3} frames"
            raise UserError(f"PCA of {patch}x{patch} patches{over} has 1 to {planes * patch**2} channels, not {kept}")
        self.register_buffer("mean", torch.zeros(planes, patch, patch))
        self.register_buffer("components", torch.zeros(kept, planes, patch, patch))
        self.register_buffer("scale", torch.zeros(kept))
        self.register_buffer("explained", torch.zeros(()))

    @torch.no_grad()
    def fit_pictures(self, pictures: UInt8[Tensor, "n c H W"]) -> None:
        """Fits the components in place, on at most about 260,000 patches of evenly spaced pictures.

        Raises:
            UserError: no pictures.
        """
        if not len(pictures):
            raise UserError("PCA was given no frames to fit; it needs at least one")
        chunks = self._subsample(pictures).split(CHUNK)
        if self.still:
            sums = torch.stack([_pixels(chunk).sum(0, dtype=torch.float64) for chunk in chunks]).sum(0)
            self.mean = (sums / sum(map(len, chunks))).to(self.mean)
        size = self.components[0].numel()
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

    @torch.no_grad()
    def project(self, pictures: UInt8[Tensor, "n c H W"]) -> Float[Tensor, "n K h w"]:
        """Scaled projections of every patch; on the device of the components.

        Raises:
            RuntimeError: not fitted yet.
        """
        self._check_fitted()
        weight, pixels = self.components * self.scale[:, None, None, None], _pixels(pictures.to(self.scale.device))
        if self.still:
            return F.conv2d(self._moving(pixels), weight, stride=self._patch)
        return F.conv2d(pixels, weight, -(weight * self.mean).sum((1, 2, 3)), stride=self._patch)

    @torch.no_grad()
    def restore(self, projections: Float[Tensor, "n m h w"]) -> UInt8[Tensor, "n c H W"]:
        """Pictures of these projections on the first m components, rounded and clipped to 0 to 255.

        Raises:
            RuntimeError: not fitted yet.
        """
        self._check_fitted()
        known = projections.shape[1]
        weight = self.components[:known] / self.scale[:known, None, None, None]
        pixels = F.conv_transpose2d(projections.to(weight), weight, stride=self._patch)
        pixels = pixels + (self.mean if self.still else self.mean.repeat(1, *projections.shape[-2:]))
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def _set(self, mean: Float[Tensor, "P"], covariance: Float[Tensor, "P P"]) -> None:
        variances, vectors = torch.linalg.eigh(covariance)
        variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1).T
        # An eigenvector's sign is arbitrary; fixed, the same frames give the same latents on every machine.
        vectors = vectors * vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
        kept = variances[: len(self.scale)].sqrt()
        floored = kept.clamp(min=max(FLOOR * float(kept[0]), FLOOR))
        scale = floored.rsqrt()
        power = float((kept * scale)[: self._channels].square().mean())
        # Of each place by itself, what is left of the mean is 0.
        if not self.still:
            self.mean.copy_(mean.view_as(self.mean))
        self.components.copy_(vectors[: len(self.scale)].reshape(self.components.shape))
        self.scale.copy_(scale / power**0.5 if power else scale)
        self.explained.copy_(kept[: self._channels].square().sum() / variances.sum() if power else torch.ones(()))

    def _patches(self, pictures: UInt8[Tensor, "n c H W"]) -> Float32[Tensor, "m P"]:
        pixels = self._moving(_pixels(pictures)) if self.still else _pixels(pictures)
        return F.unfold(pixels, self._patch, stride=self._patch).transpose(1, 2).flatten(0, 1)

    def _moving(self, pixels: Float[Tensor, "n c H W"]) -> Float[Tensor, "n c H W"]:
        if pixels.shape[1:] != self.mean.shape:
            (height, width), (own, across) = pixels.shape[2:], self.mean.shape[1:]
            raise UserError(
                f"frames are {width}x{height} pixels, but the PCA's mean picture is {across}x{own}: a camera that "
                "stands still has one size"
            )
        return pixels - self.mean

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        """A mean picture has the size of the frames, which nothing says before they are seen."""
        if self.still and (mean := state_dict.get(f"{prefix}mean")) is not None and mean.dim() == 3:
            self.mean = self.mean.new_zeros(mean.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _subsample(self, pictures: UInt8[Tensor, "n c H W"]) -> UInt8[Tensor, "m c H W"]:
        most = max(1, MAX_PATCHES // (pictures.shape[-2] * pictures.shape[-1] // self._patch**2))
        if len(pictures) <= most:
            return pictures
        return pictures[torch.linspace(0, len(pictures) - 1, most).long()]

    def _check_fitted(self) -> None:
        if not self.scale.any():
            raise RuntimeError("PCA latents are used before they were fitted: fit them, or load a state")


def _pixels(pictures: UInt8[Tensor, "n c H W"]) -> Float32[Tensor, "n c H W"]:
    return pictures.float() / 127.5 - 1
