"""How far bfloat16 is from float32 in one evaluation of the full-size model: `python precision.py > precision.json`."""

import json
import sys

import torch

from videopolicy import registry
from videopolicy.backbones.base import Condition
from videopolicy.clips.normalize import Normalizer
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.hardware import device_name
from videopolicy.models.base import Model
from videopolicy.training.prepare import build

SIGMA = 10.0


@torch.inference_mode()
def denoise(model: Model) -> Joint:
    """The denoised video and actions of one noisy sample, the same whatever the precision."""
    generator = torch.Generator().manual_seed(0)
    noise = Joint.randn_like(model.blank(1), generator)
    text = torch.randn(1, 1, model.text.width, generator=generator).to(noise.video.device)
    condition = Condition(torch.zeros_like(noise.video), text)
    sigma = torch.tensor([SIGMA], device=noise.video.device)
    return model.denoise(noise * SIGMA, Levels.same(sigma), condition)


def main(name: str) -> None:
    """Evaluates once in each precision with the same random weights."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(registry.entry("presets", name).model, Normalizer((-1.0,) * 7, (1.0,) * 7), 0).to(device).eval()
    whole = denoise(model)
    half = denoise(model.to(torch.bfloat16))
    differences = {
        part: {
            "largest": (getattr(half, part) - getattr(whole, part)).abs().max().item(),
            "mean": (getattr(half, part) - getattr(whole, part)).abs().mean().item(),
            "deviation_of_float32": getattr(whole, part).std().item(),
        }
        for part in ("video", "actions")
    }
    facts = {"preset": name, "device": device_name(device), "torch": torch.__version__, "sigma": SIGMA}
    print(json.dumps({**facts, "bfloat16_minus_float32": differences}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "svd")
