"""Writes a checkpoint's video model as a folder that diffusers opens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from videopolicy import checkpoint
from videopolicy.cli._threads import choose_threads
from videopolicy.errors import UserError
from videopolicy.ownership import owned
from videopolicy.policies.checkpoint import Precision
from videopolicy.porting.export import export


@dataclass(frozen=True)
class Command:
    """Writes video model, vae and scheduler of a checkpoint in the layout that its family has in diffusers.

    A model on Stable Video Diffusion is told by text what to do, diffusers' StableVideoDiffusionPipeline by an image,
    through an image encoder that a model does not have. Without --image-encoder, open the pipeline with
    image_encoder=None and feature_extractor=None, or its parts alone. The pipeline of a video transformer is opened
    with the text_encoder and the tokenizer of the published one, or with None for both.

    Example: videopolicy export runs/video/checkpoint --out models/diffusers
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The checkpoint's folder; its latents are those of its family."""
    out: Path
    """The folder to write."""
    image_encoder: Path | None = None
    """A folder of Stable Video Diffusion in diffusers' layout, to copy image_encoder and feature_extractor from."""
    precision: Precision = "float32"
    """Of the video model's weights on disk; the autoencoder stays in float32."""

    def run(self) -> None:
        """Writes the folder."""
        choose_threads()
        reads = [self.checkpoint] + ([self.image_encoder] if self.image_encoder else [])
        with owned(self.out, "export", reads):
            # Before weights are read that may take minutes.
            if self.out.exists():
                raise UserError(f"{self.out} exists; choose another --out or remove it")
            model, _ = checkpoint.load(self.checkpoint, dtype=getattr(torch, self.precision))
            export(model, self.out, self.image_encoder)
        print(f"wrote {self.out}")
