"""What the presets of today's video models cost on paper: parameters, FLOPs and memory, without memory for weights.

    python experiments/backbones/cost.py > experiments/backbones/cost.json

FLOPs are counted by `videopolicy.hardware.count_flops` on the meta device; a part that learns takes three passes, and a
fourth, forward, of the video model with gradient checkpointing. Memory is that of weights, gradients, average and both
moments in float32, without activations. Seconds are FLOPs over a GPU's, by the share of its peak that is assumed.
"""

import json

import torch

from videopolicy import registry
from videopolicy.backbones.base import Condition
from videopolicy.clips.normalize import Normalizer
from videopolicy.diffusion.joint import Levels
from videopolicy.hardware import count_flops

PRESETS = ("svd", "wan_1b", "wan_5b", "wan_a14b", "cosmos_2b", "cosmos25_2b")
BATCH, ACTIONS, TOKENS = 32, 7, 512
# bfloat16 on an H100, NVIDIA's data sheet, and the share of it that large transformers reach.
PEAK, SHARE = 989e12, 0.4
# Bytes a number of what learns: float32 weight, gradient, average, two moments; and of what does not.
LEARNS, RESTS = 20, 4
GPUS = (1, 8, 64)
RANK = 16


def count(module):
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def adapted(backbone):
    """Parameters of LoRA's adapters."""
    targets = [module for name, module in backbone.named_modules() if name.endswith(backbone.lora_targets)]
    return sum(RANK * (module.in_features + module.out_features) for module in targets)


def cost(name):
    """Of one preset."""
    preset = registry.entry("presets", name)
    with torch.device("meta"):
        model = preset.model.build(Normalizer((-1.0,) * ACTIONS, (1.0,) * ACTIONS)).to("meta")
        # As in `count_forward`: the counter stumbles over weights that a module hands on as they are.
        model.requires_grad_(False)
        x, ones = model.blank(1), torch.ones(1)
        tokens = 1 if name == "svd" else TOKENS
        images = x.video.new_zeros(1, x.video.shape[1], model.latents.condition_channels, *x.video.shape[3:])
        condition = Condition(images, torch.ones(1, tokens, model.text.width))
        with torch.no_grad():
            video = count_flops(lambda: model.backbone.denoise(x.video, ones, condition))
            look = count_flops(lambda: model.backbone.read(x.video, ones, condition))
            whole = count_flops(lambda: model.denoise(x, Levels.same(ones), condition))
    backbone, head = count(model.backbone), sum(map(count, model.action_modules))
    rest = count(model.latents) + sum(map(count, [model.text]))
    step = BATCH * (4 * video + 3 * (whole - video))
    lora = adapted(model.backbone)
    return {
        "parameters": {"backbone": backbone, "head": head, "latents and text": rest, "adapters": lora},
        "TFLOPs": {
            "video pass": video / 1e12,
            "look for a plan": look / 1e12,
            "head pass": (whole - video) / 1e12,
            "training step": step / 1e12,
        },
        "seconds a step": {gpus: step / (gpus * SHARE * PEAK) for gpus in GPUS},
        "GB a GPU": {gpus: (LEARNS * (backbone + head) / gpus + RESTS * rest) / 1e9 for gpus in GPUS},
        "GB with adapters": (LEARNS * (lora + head) + RESTS * (backbone + rest)) / 1e9,
    }


if __name__ == "__main__":
    print(json.dumps({name: cost(name) for name in PRESETS}, indent=1))
