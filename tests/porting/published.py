"""What tests do with a pipeline as it is published, whatever its video model."""

import numpy as np
import pytest
import torch
from PIL import Image

from videopolicy import checkpoint
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.porting.convert import convert


def imported(published, template, tmp_path_factory):
    """What a pipeline becomes, once it was saved and loaded; its texts are cached apart."""
    folder = tmp_path_factory.mktemp("imported") / "checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        checkpoint.save(convert(str(published), template).model, checkpoint.Provenance("video", 0), folder)
    return checkpoint.load(folder)[0]


def check_pixels(model, latents, frames):
    """A pipeline's frames, (T, C, H, W) of 0 to 1, are what the model decodes the pipeline's latents to."""
    shown = model.latents.decode_window(latents.transpose(1, 2))[0].permute(0, 3, 1, 2)
    # The pipeline cuts what lies between two bytes, where a model rounds it.
    assert (shown - 255 * frames).abs().max() < 1.01


def check_alike(ours, theirs):
    """Two pipelines' parts that are drawn with are described alike."""
    for kind in ("transformer", "vae", "scheduler"):
        one, other = (
            {name: value for name, value in dict(getattr(pipeline, kind).config).items() if name[0] != "_"}
            for pipeline in (ours, theirs)
        )
        assert one == other


def image(size):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def guided(model, picture, sentence, guidance):
    """The codes of a picture, and the model's denoiser behind it by guidance in the words of Cosmos' pipelines.

    There guidance of 1 is none, and any other adds so much of the difference.
    """
    codes = model.latents.encode(torch.from_numpy(np.array(picture))[None])
    scale = 1.0 if guidance == 1 else 1 + guidance
    return codes, model.guided(model.condition(codes[None], [sentence]), LinearGuidance(scale, scale))
