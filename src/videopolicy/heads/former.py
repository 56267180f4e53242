"""Features of several blocks, frames and views -> one vector, by learned queries (Hu et al. 2024, VPP, section 4.2)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError

# Of the learned queries and the embeddings at the start; what they are added to has unit scale.
SPREAD = 0.5
# The highest frequency of the embedding of a place, in half periods across the picture.
FINEST = 16.0
# Width of the hidden layer of the feed-forward part, over that of the tokens.
WIDER = 4


@dataclass(frozen=True)
class FormerConfig:
    """Shape of the Video Former.

    Attributes:
        queries: learned queries of each frame.
        channels: width of the tokens, a multiple of 4 and of `heads`.
        heads: of every attention.
        layers: blocks of attention within the frame, attention over time and feed-forward.
        width: length G of the vector.
    """

    queries: int = limited(4, 1, 1024)
    channels: int = limited(64, 4, 2**16)
    heads: int = limited(4, 1, 1024)
    layers: int = limited(2, 1, 64)
    width: int = limited(512, 1, 2**20)

    def __post_init__(self) -> None:
        check_limits(self, "adapter")
        if self.channels % 4 or self.channels % self.heads:
            raise UserError(
                f"channels of a Video Former are a multiple of 4 and of its {self.heads} heads, not {self.channels}"
            )

    def build(self, taps: tuple[int, ...], time_width: int, views: int, frames: int) -> "VideoFormer":
        """A Video Former for taps of these widths, V views and T frames of each."""
        return VideoFormer(self, taps, views, frames)


class VideoFormer(nn.Module):
    """Learned queries look at the tokens of their own frame, all views and taps, then each at itself over time.

    The tokens carry embeddings of the view, the tap and the place that they come from, and taps may have any size.

    Attributes:
        width: length G of the vector.
    """

    def __init__(self, config: FormerConfig, taps: tuple[int, ...], views: int, frames: int) -> None:
        super().__init__()
        self.width, channels = config.width, config.channels
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, channels), nn.LayerNorm(channels)) for width in taps
        )
        self.views = nn.Parameter(SPREAD * torch.randn(views, channels))
        self.taps = nn.Parameter(SPREAD * torch.randn(len(taps), channels))
        # Every frame has queries of its own: they tell the attention over time which frame is which.
        self.queries = nn.Parameter(SPREAD * torch.randn(frames, config.queries, channels))
        self.layers = nn.ModuleList(FormerLayer(channels, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Sequential(nn.Linear(frames * config.queries * channels, config.width), nn.SiLU())

    def forward(
        self, taps: tuple[Float[Tensor, "B V T _ _ _"], ...], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B G"]:
        """Taps of any size. The noise level is not heeded."""
        tokens = self.tokens(taps)
        x = self.queries.expand(len(tokens), -1, -1, -1)
        for layer in self.layers:
            x = layer(x, tokens)
        return self.out(self.norm(x).flatten(1))

    def tokens(self, taps: tuple[Float[Tensor, "B V T _ _ _"], ...]) -> Float[Tensor, "B T N D"]:
        """Of each frame, the N pixels of all its views and taps; their order means nothing."""
        parts = []
        for tap, projection, kind in zip(taps, self.projections, self.taps, strict=True):
            pixels = projection(tap.permute(0, 2, 1, 4, 5, 3))
            place = places(tap.shape[-2], tap.shape[-1], self.views.shape[1], tap.device).to(pixels)
            parts.append((pixels + kind + place + self.views[:, None, None]).flatten(2, 4))
        return torch.cat(parts, 2)


class FormerLayer(nn.Module):
    """Attention of each frame's queries to its tokens, attention of each query over time, feed-forward."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.before = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.space, self.time = Attention(channels, heads), Attention(channels, heads)
        self.feed = nn.Sequential(
            nn.Linear(channels, WIDER * channels), nn.GELU(), nn.Linear(WIDER * channels, channels)
        )

    def forward(self, x: Float[Tensor, "B T Q D"], tokens: Float[Tensor, "B T N D"]) -> Float[Tensor, "B T Q D"]:
        """The queries, having looked."""
        in_space, in_time, feeding = self.before
        asking = in_space(x)
        # Beside the tokens, the queries of a frame see each other, as in a Perceiver resampler.
        x = x + self.space(asking, torch.cat((tokens, asking), 2))
        over_time = in_time(x).transpose(1, 2)
        x = x + self.time(over_time, over_time).transpose(1, 2)
        return x + self.feed(feeding(x))


class Attention(nn.Module):
    """Attention of several heads over the last axis but one."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "*b q D"], seen: Float[Tensor, "*b n D"]) -> Float[Tensor, "*b q D"]:
        """What each query finds among what is seen."""
        q, k, v = (
            project(part).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for project, part in ((self.to_q, x), (self.to_k, seen), (self.to_v, seen))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2))


def places(height: int, width: int, channels: int, device: torch.device) -> Float[Tensor, "height width D"]:
    """Sines and cosines of the middle of each pixel, half of the channels for either side; the picture is 1 by 1.

    The same place has the same embedding in pictures of all sizes.
    """
    frequencies = torch.logspace(0, 1, channels // 4, base=FINEST, device=device) * torch.pi

    def along(pixels: int) -> Float[Tensor, "n d"]:
        angles = (torch.arange(pixels, device=device)[:, None] + 0.5) / pixels * frequencies
        return torch.cat((angles.sin(), angles.cos()), 1)

    down, right = along(height)[:, None].expand(-1, width, -1), along(width)[None].expand(height, -1, -1)
    return torch.cat((down, right), 2)
