"""Text by CLIP (Radford et al. 2021), pretrained and frozen: one token an instruction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError
from videopolicy.text.base import Text, forget_first
from videopolicy.text.clip_tokens import END, START, VOCABULARY, tokenize

# Tokens of an instruction, with those for its start and end.
CONTEXT = 77
# Of the hidden layer in every block.
EXPANSION = 4


@dataclass(frozen=True)
class Config:
    """Shape of the text tower; the defaults are OpenCLIP's ViT-H/14, 354 million parameters.

    Attributes:
        width: of the token that comes out.
        hidden: width inside.
        layers: blocks.
        heads: of attention in each.
    """

    width: int = limited(1024, 1, 2**20)
    hidden: int = limited(1024, 1, 2**16)
    layers: int = limited(24, 1, 1024)
    heads: int = 16

    def __post_init__(self) -> None:
        check_limits(self, "text")
        if self.heads < 1 or self.hidden % self.heads:
            raise UserError(f"CLIP's {self.heads} heads do not divide a hidden width of {self.hidden}")

    def build(self) -> "CLIP":
        """The encoder with fresh weights; it requires pretrained ones before use."""
        return CLIP(self)


EXAMPLE = Config(width=24, hidden=32, layers=2, heads=4)


class CLIP(Text):
    """The projected end-of-text token, not normalised, as float32.

    The tower never learns, so each instruction goes through it once; then its token is remembered, until weights are
    loaded or moved. It runs in the precision of its weights, whatever autocast says.

    Attributes:
        tower: transformers' module.
    """

    pretrained = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.width = config.width
        self.tower = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=VOCABULARY,
                hidden_size=config.hidden,
                intermediate_size=EXPANSION * config.hidden,
                projection_dim=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=CONTEXT,
                hidden_act="gelu",
                bos_token_id=START,
                eos_token_id=END,
            )
        )
        self.requires_grad_(False).eval()
        self._known: dict[str, Tensor] = {}
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, instructions: Sequence[str]) -> Float32[Tensor, "b 1 W"]:
        """One token an instruction; zeros for the empty one.

        Raises:
            UserError: an instruction is longer than CLIP reads: cut, it could read like another one.
        """
        if self._stays:
            forget_first(self._known)
        for instruction in instructions:
            if instruction not in self._known:
                self._known[instruction] = self._token(instruction)
        return torch.stack([self._known[instruction] for instruction in instructions])[:, None]

    # Not in inference mode, whatever the caller is in: what is remembered may be used in training.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _token(self, instruction: str) -> Float32[Tensor, "W"]:
        device = self.tower.device
        if not instruction.strip():
            return torch.zeros(self.width, device=device)
        tokens = torch.tensor([tokenize(instruction)], device=device)
        length = tokens.shape[1]
        if length > CONTEXT:
            raise UserError(
                f"the instruction {instruction!r} has {length - 2} tokens, but CLIP reads {CONTEXT - 2}; shorten it"
            )
        # One at a time and without padding, so that a token never depends on its company.
        with torch.autocast(device.type, enabled=False):
            places = torch.arange(length, device=device)[None]
            return self.tower(input_ids=tokens, position_ids=places).text_embeds[0].float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CLIP":
        self._known.clear()
        return super()._apply(fn, recurse)


def _forget(module: nn.Module, _incompatible: Any) -> None:
    assert isinstance(module, CLIP)
    module._known.clear()
