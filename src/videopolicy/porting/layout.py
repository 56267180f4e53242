"""The layout of a pipeline of diffusers' that is written: its parts, and the index that names them."""

from dataclasses import dataclass
from typing import Any, Self

import diffusers
import torch

from videopolicy.backbones.transformer import VideoTransformer
from videopolicy.errors import UserError
from videopolicy.latents.wan import Wan
from videopolicy.models.video_action import VideoActionModel
from videopolicy.porting.families import Family

INDEX = "model_index.json"
# The networks of a pipeline: that of the highest noise levels, and of others.
TRANSFORMERS = ("transformer", "transformer_2")
# Of a pipeline that is told in words; a model keeps neither of them.
TOLD = ("text_encoder", "tokenizer")


@dataclass(frozen=True)
class PipelineLayout:
    """What is written of a model.

    Attributes:
        parts: diffusers' modules and schedulers, by the names of their folders.
        index: what `model_index.json` holds.
        sees: whether the pipeline has an image encoder.
    """

    parts: dict[str, Any]
    index: dict[str, Any]
    sees: bool = False

    @classmethod
    def of(cls, pipeline: str, parts: dict[str, Any], absent: tuple[str, ...] = (), sees: bool = False) -> Self:
        """The layout of a pipeline.

        Args:
            pipeline: its class.
            parts: that are written.
            absent: that it has and a model has not.
            sees: whether it has an image encoder.
        """
        named = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
        about = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
        return cls(parts, {**about, **{name: [None, None] for name in absent}, **named}, sees)


def transformer_layout(model: VideoActionModel, backbone: VideoTransformer, family: Family) -> PipelineLayout:
    """The layout of a video transformer's pipeline.

    Raises:
        UserError: the model shows its backbone more than the pipeline does, or has other latents than Wan's.
    """
    if not isinstance(model.latents, Wan) or backbone.beyond is not None:
        raise UserError(f"only a model on Wan's latents alone is one that diffusers knows a {family.pipeline} of")
    named = zip(TRANSFORMERS, backbone.experts, strict=False)
    parts = {name: _plain(net, family) for name, net in named}
    parts |= {"vae": model.latents.vae, "scheduler": family.scheduler()}
    layout = PipelineLayout.of(family.pipeline, parts, absent=(*TOLD, *family.absent))
    layout.index.update(family.settings(backbone.shape))
    return layout


def _plain(net: Any, family: Family) -> Any:
    """A network as diffusers' own class, with the same weights in memory."""
    facts = dict(net.config)
    # diffusers notes here what was left at its default, and would put the default there again.
    facts.pop("_use_default_values", None)
    with torch.device("meta"):
        plain = getattr(diffusers, family.class_name).from_config(facts)
    plain.load_state_dict(net.state_dict(), assign=True)
    return plain
