"""The video transformer of Cosmos-Predict2 and 2.5 (NVIDIA 2025, arXiv 2511.00062) on diffusers' modules.

A flow model behind the noise levels of EDM: it sees x / (1 + sigma) at time sigma / (1 + sigma). The frames that it
continues are clean, at the time of level 0.0001, and marked by 1 in a channel of their own.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.transformer_cosmos import CosmosTransformer3DModel
from jaxtyping import Float
from torch import Tensor

from videopolicy.backbones.transformer import TransformerConfig, VideoTransformer
from videopolicy.configs import limited
from videopolicy.errors import UserError

# Time of the clean frames: that of level 0.0001.
CLEAN = 1e-4 / (1 + 1e-4)
# Latents in time, height and width that positions reach to.
LONGEST = (128, 240, 240)


@dataclass(frozen=True)
class Config(TransformerConfig):
    """Shape of the transformer; see `TransformerConfig` for what all share.

    Attributes:
        expansion: width of the hidden layer of a block's feed-forward network, in that of a token.
        modulation: rank of the matrices by which the time modulates a block.
        reach: by how much the positions in time, height and width are drawn out.
        fps: frames a second of the video that the network is told; None of none.
        projected: width that tokens of the text are projected to first, as those of Predict2.5, which was trained with
            zeros in the place of hidden text; None for no projection.
    """

    name: ClassVar[str] = "cosmos"

    expansion: int = limited(4, 1, 64)
    modulation: int = limited(32, 1, 2**16)
    reach: tuple[float, float, float] = limited((1.0, 3.0, 3.0), 0.01, 100)
    fps: float | None = limited(16.0, 0.01, 1000)
    projected: int | None = limited(None, 1, 2**16)

    @property
    def prompted(self) -> bool:
        """See `TransformerConfig.prompted`."""
        return self.projected is None

    def build(self, latent_channels: int, text_width: int, condition_channels: int | None = None) -> "Cosmos":
        """Fresh weights for latents of C channels, tokens of width W, conditioning latents of Q channels.

        Q is C unless it is given; of more, the first C are the current image's latents.
        """
        return Cosmos(self, latent_channels, text_width, condition_channels or latent_channels)


# As published, 1.96 and 2.06 billion parameters; the text of the latter is 100,352 wide.
PREDICT2_2B = Config(layers=28, heads=16, head_channels=128, modulation=256, patch=2, taps=(17,))
PREDICT2_5_2B = replace(PREDICT2_2B, fps=None, projected=1024)
EXAMPLE = Config(layers=3, heads=2, head_channels=12, modulation=8, expansion=2, taps=(0, 1))


class Cosmos(VideoTransformer):
    """See `VideoTransformer`."""

    repeated_blocks = ("CosmosTransformerBlock",)
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")

    def __init__(self, config: Config, latent_channels: int, text_width: int, condition_channels: int) -> None:
        super().__init__(config, latent_channels, text_width, condition_channels)
        self.fps = config.fps
        projection: dict[str, Any] = {}
        if config.projected is not None:
            projection = {
                "use_crossattn_projection": True,
                "crossattn_proj_in_channels": text_width,
                "encoder_hidden_states_channels": config.projected,
            }
        self.net = PerFrameCosmos(
            # Beside the latents, which frames are clean.
            in_channels=latent_channels + 1,
            out_channels=latent_channels,
            num_attention_heads=config.heads,
            attention_head_dim=config.head_channels,
            num_layers=config.layers,
            mlp_ratio=float(config.expansion),
            text_embed_dim=config.projected or text_width,
            adaln_lora_dim=config.modulation,
            max_size=LONGEST,
            patch_size=(1, config.patch, config.patch),
            rope_scale=config.reach,
            concat_padding_mask=True,
            extra_pos_embed_type=None,
            **projection,
        )

    def arrange(self, views: int, pad: int, side: int) -> None:
        """See `Backbone.arrange`."""
        super().arrange(views, pad, side)
        beside = views if self.shape.views == "width" else 1
        self._check_reach(self._layout.clean(), side, beside * side)

    def run(
        self,
        frames: Float[Tensor, "B C T h W"],
        clean: int,
        noise: Float[Tensor, "B"],
        text: Float[Tensor, "B L W2"],
        beyond: Float[Tensor, "B d K h2 w2"] | None,
        blocks: int,
    ) -> tuple[Float[Tensor, "B C T h W"], list[Float[Tensor, "B d T h2 w2"]]]:
        """See `VideoTransformer.run`."""
        self._check_reach(*frames.shape[2:])
        times = noise[:, None].repeat(1, frames.shape[2])
        times[:, :clean] = CLEAN
        marks = torch.zeros_like(frames[:, :1])
        marks[:, :, :clean] = 1
        return self.net(torch.cat((frames, marks), 1), times, text, beyond, blocks, self.shape.taps, self.fps)

    def embed_noise(self, noise: Float[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """See `Backbone.embed_noise`."""
        return self.net.embed(noise)

    def _check_reach(self, time: int, height: int, width: int) -> None:
        """Of a video of so many frames and latents."""
        patch, most = self.shape.patch, max(LONGEST[0], LONGEST[1] // self.shape.patch)
        if max(time, height // patch, width // patch) > most:
            other = {"width": "time", "time": "width"}[self.shape.views]
            raise UserError(
                f"the views make a video of frames of {width // patch}x{height // patch} tokens, {time} or more, and "
                f"positions of backbone 'cosmos' reach to {most}; use fewer views, smaller images, or "
                f"arrange them by views={other!r}"
            )


class PerFrameCosmos(CosmosTransformer3DModel):
    """diffusers' transformer; it hands out what its blocks give and can stop early.

    diffusers' own pass resizes the mask of padded pixels by torchvision; here no pixel is padded.
    """

    def forward(
        self,
        frames: Float[Tensor, "B C T h W"],
        times: Float[Tensor, "B T"],
        text: Float[Tensor, "B L W2"],
        beyond: Float[Tensor, "B d K h2 w2"] | None,
        blocks: int,
        taps: tuple[int, ...],
        fps: float | None,
    ) -> tuple[Float[Tensor, "B C T h W"], list[Float[Tensor, "B d T h2 w2"]]]:
        """One pass; what it gives first means nothing if it stops before the last block.

        Args:
            frames: latents, and which of the frames are clean.
            times: of each frame, 0 to 1.
            text: tokens of each clip.
            beyond: added to the tokens of the first frames.
            blocks: how many run.
            taps: the blocks whose outputs are wanted, normed as every block norms what it reads.
            fps: frames a second.
        """
        padding = torch.zeros_like(frames[:, :1])
        whole = torch.cat((frames, padding), 1)
        rotary, hidden = self.rope(whole, fps), self.patch_embed(whole)
        grid = hidden.shape[1:4]
        if beyond is not None:
            count = beyond.shape[2]
            hidden = torch.cat((hidden[:, :count] + beyond.permute(0, 2, 3, 4, 1), hidden[:, count:]), 1)
        hidden = hidden.flatten(1, 3)
        # Frames come first in the order of tokens, and those of one have its time.
        a_frame = grid[1] * grid[2]
        modulation, time = (
            part.unflatten(0, times.shape).repeat_interleave(a_frame, 1)
            for part in self.time_embed(hidden, times.flatten())
        )
        text = self.crossattn_proj(text) if self.config["use_crossattn_projection"] else text
        again = self._gradient_checkpointing_func if torch.is_grad_enabled() and self.gradient_checkpointing else None
        outputs: dict[int, Tensor] = {}
        for index, block in enumerate(self.transformer_blocks[:blocks]):
            given = (hidden, text, time, modulation, rotary)
            hidden = block(*given) if again is None else again(block, *given)
            if index in taps:
                outputs[index] = self.norm_out.norm(hidden).transpose(1, 2).unflatten(2, grid)
        if blocks == len(self.transformer_blocks):
            hidden = self._unpatch(self.proj_out(self.norm_out(hidden, time, modulation)), grid)
        return hidden, [outputs[tap] for tap in taps]

    def embed(self, times: Float[Tensor, "B"]) -> Float[Tensor, "B d"]:
        """The embedding of a time, 0 to 1, as the head is given it."""
        part = self.time_embed
        return part.norm(part.time_proj(times).to(self.proj_out.weight.dtype))

    def _unpatch(self, tokens: Float[Tensor, "B n k"], grid: Any) -> Float[Tensor, "B C T h W"]:
        side = self.config["patch_size"][1]
        # B T h2 w2 p q C -> B C T h2 p w2 q
        parts = tokens.unflatten(2, (side, side, -1)).unflatten(1, tuple(grid))
        return parts.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)
