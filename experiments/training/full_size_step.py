"""A training step of the full-size model on one clip: `python full_size_step.py video|action [PRESET] > FILE.json`."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from videopolicy import registry
from videopolicy.clips.normalize import Normalizer
from videopolicy.hardware import device_name, peak_memory
from videopolicy.models.base import Model, ModelConfig
from videopolicy.policies.benchmark import count_weights
from videopolicy.presets.base import Preset
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective, total
from videopolicy.training.performance.benchmark import ACTION_WIDTH, random_clips
from videopolicy.training.performance.onednn_workaround import never_two_frames
from videopolicy.training.stages import STAGES


def build(config: ModelConfig, stage: str) -> Model:
    """Random weights in bfloat16, as are the optimiser's then: a quarter of what float32 with mixed precision takes."""
    normalizer = None if stage == "video" else Normalizer((-1.0,) * ACTION_WIDTH, (1.0,) * ACTION_WIDTH)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = config.build(normalizer)
    finally:
        torch.set_default_dtype(torch.float32)
    model.latents.float()
    never_two_frames(model)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def watched(weights: list[nn.Parameter]) -> list[torch.Tensor]:
    """Some of the weights, to see that they move; a copy of all would not fit."""
    return [weight.detach().flatten()[:64].float().cpu() for weight in weights]


def main(stage: str, name: str) -> None:
    """Builds, takes one step, and prints seconds, peak memory and whether all was finite."""
    seconds: dict[str, float] = {}

    def timed(part: str, run: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds[part] = round(time.perf_counter() - begun, 2)
        print(part, seconds[part], "s", file=sys.stderr, flush=True)
        return result

    preset: Preset = registry.entry("presets", name)
    model = timed("build", lambda: build(preset.model, stage))
    objective = Objective(model, replace(preset.training, stage=STAGES[stage], gradient_checkpointing=True))
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    # One after the other: groups of weights at once need copies of all of them.
    optimizer = torch.optim.AdamW(objective.parameter_groups(), weight_decay=0.0, foreach=False)
    batch = random_clips(model, 1)
    noise = draw_noise(model, objective.training_config, batch, generator_of(0, 0))
    before = watched(learning)
    loss = timed("forward", lambda: total(objective(batch, noise)))
    timed("backward", loss.backward)
    norm = timed("clip", lambda: nn.utils.clip_grad_norm_(learning, preset.training.max_grad_norm, foreach=False))
    timed("optimiser", optimizer.step)
    after = torch.cat(watched(learning))
    found = {
        "preset": name,
        "stage": stage,
        "device": device_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "weights": count_weights(model),
        "learning": sum(weight.numel() for weight in learning),
        "seconds": seconds,
        "loss": loss.item(),
        "gradient": norm.item(),
        "finite": bool(torch.isfinite(loss) and torch.isfinite(norm) and torch.isfinite(after).all()),
        "moved": round((after != torch.cat(before)).float().mean().item(), 3),
        "peak_memory_gb": round(peak_memory(model.device) / 1e9, 2),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "svd")
