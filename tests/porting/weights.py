"""Files such as Stability AI and the paper's authors release, with their names and structure but small widths."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.golden.fill import fill
from tests.golden.keys import keys
from torch import Tensor

from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.windows import Window
from videopolicy.heads import conv3d
from videopolicy.heads.adapter3d import Adapter3dConfig, ResidualStage
from videopolicy.heads.authors_keys import authors_names
from videopolicy.models.video_action import Config
from videopolicy.presets.svd import PRESET
from videopolicy.text import clip
from videopolicy.text.clip_keys import to_openclip

NET, CLIP = "model.diffusion_model.", "conditioner.embedders.0.open_clip.model."
FIRST, CONDITIONER = "first_stage_model.", "conditioner.embedders.3.encoder."
# As wide as the U-Net of the golden numbers attends to.
TEXT = clip.Config(width=48, hidden=32, layers=2, heads=1)
STATISTICS = Normalizer((-1.0, -2.0, 0.0), (1.0, 2.0, 0.5))
VIEWS = ("left", "right")

# The golden U-Net has 16-channel heads, which its weights do not tell.
VIDEO = replace(PRESET.model, backbone=replace(PRESET.model.backbone, head_channels=16))
# The head's shape is the template's: two views of three frames, 64 pixels each.
ACTING: Config = replace(
    VIDEO,
    views=VIEWS,
    size=64,
    window=Window(frames=3, stride=2, actions=8),
    head=conv3d.Config(
        channels=(16, 32),
        time_width=16,
        adapter=Adapter3dConfig(
            levels=(*(ResidualStage(16, 2, 1, stride=2),) * 3, *(ResidualStage(16, 2, 1),) * 2),
            joins=(ResidualStage(16, 2, 1),) * 4,
            view=(ResidualStage(16, 2, 1),),
            joint=(ResidualStage(16, 2, 1), ResidualStage(16, 2, 1, pace=2)),
            side=1,
        ),
    ),
)


def svd_weights(text: bool = True) -> dict[str, Tensor]:
    """A whole video model: the golden U-Net and autoencoder, and a small text tower."""
    weights = {NET + name: fill(name, shape) for name, shape in keys("unet").items()}
    first = {name: fill(name, shape) for name, shape in keys("vae").items()}
    weights |= {FIRST + name: value for name, value in first.items()}
    weights |= {CONDITIONER + name: value for name, value in conditioner(first).items()}
    return weights | (text_weights(CLIP) if text else {CLIP + "visual.proj": torch.ones(3, 3)})


def conditioner(first: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other encoder, which its quantisation convolution makes the same; and a decoder that nothing calls."""
    quant = torch.eye(8) + fill("quant", (8, 8)) / 4
    shift, inverse = fill("shift", (8,)), torch.linalg.inv(quant)
    weights = {name: value.clone() for name, value in first.items() if name.startswith("encoder.")}
    weights["encoder.conv_out.weight"] = torch.einsum("oc,cixy->oixy", inverse, first["encoder.conv_out.weight"])
    weights["encoder.conv_out.bias"] = inverse @ (first["encoder.conv_out.bias"] - shift)
    unused = {"decoder.conv_in.weight": torch.ones(2), "post_quant_conv.bias": torch.ones(4)}
    return weights | {"quant_conv.weight": quant[..., None, None], "quant_conv.bias": shift} | unused


def text_weights(prefix: str = "") -> dict[str, Tensor]:
    """A small text tower under OpenCLIP's names."""
    with torch.device("meta"):
        names = to_openclip(TEXT.build().tower.state_dict())
    return {prefix + name: fill(name, tuple(value.shape)) for name, value in names.items()}


def head_weights(template: Config = ACTING, width: int = 3) -> dict[str, Tensor]:
    """The authors' adapter and action denoiser, as small as the template's."""
    with torch.device("meta"):
        built = template.head.build((32, 64, 128, 128, 128), 128, len(template.views), template.window.frames, width)
    names = authors_names(built.state_dict(), template.head, len(template.views))
    return {NET + names[name]: fill(names[name], tuple(value.shape)) for name, value in built.state_dict().items()}


def safe(weights: dict[str, Tensor], path: Path) -> str:
    """A safetensors file."""
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    return str(path)


def lightning(weights: dict[str, Tensor], path: Path, **more: object) -> str:
    """A checkpoint as the authors' training loop writes it."""
    torch.save({"epoch": 3, "global_step": 12, "state_dict": weights, **more}, path)
    return str(path)
