"""What tests do with a pipeline as it is published, whatever its video model."""

import numpy as np
import pytest
from PIL import Image

from videopolicy import checkpoint
from videopolicy.porting.convert import convert


def imported(published, template, tmp_path_factory):
    """What a pipeline becomes, once it was saved and loaded; its texts are cached apart."""
    folder = tmp_path_factory.mktemp("imported") / "checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        checkpoint.save(convert(str(published), template).model, checkpoint.Provenance("video", 0), folder)
    return checkpoint.load(folder)[0]


def image(size):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))
