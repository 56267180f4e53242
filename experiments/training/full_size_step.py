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
from videopolicy.clips.normalize import MinMax
from videopolicy.hardware import device_name, peak_memory
from videopolicy.models.video_action import Config, VideoActionModel
from videopolicy.policies.benchmark import count_weights
from videopolicy.presets.base import Preset
from videopolicy.training.objective import Objective, total
from videopolicy.training.performance.benchmark import ACTION_WIDTH, random_clips
from videopolicy.training.performance.onednn_workaround import never_two_frames


def build(model: Config, stage: str) -> VideoActionModel:
    """Random weights in bfloat16, as are the optimiser's then: a quarter of what float32 with mixed precision takes."""
    normalizer = None if stage == "video" else MinMax((-1.0,) * ACTION_WIDTH, (1.0,) * ACTION_WIDTH)
    torch.set_default_dtype(torch.bfloat16)
    try:
        policy = model.build(normalizer)
    finally:
        torch.set_default_dtype(torch.float32)
    policy.latents.float()
    never_two_frames(policy)
    return policy.to("cuda" if torch.cuda.is_available() else "cpu")


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
    policy = timed("build", lambda: build(preset.model, stage))
    objective = Objective(policy, replace(preset.training, stage=stage, checkpoint_gradients=True))
    learning = [weight for weight in policy.parameters() if weight.requires_grad]
    # One after the other: groups of weights at once need copies of all of them.
    optimizer = torch.optim.AdamW(objective.parameter_groups(), weight_decay=0.0, foreach=False)
    batch, generator = random_clips(policy, 1), torch.Generator().manual_seed(0)
    before = watched(learning)
    loss = timed("forward", lambda: total(objective(batch, generator), stage))
    timed("backward", loss.backward)
    norm = timed("clip", lambda: nn.utils.clip_grad_norm_(learning, preset.training.clip, foreach=False))
    timed("optimiser", optimizer.step)
    after = torch.cat(watched(learning))
    found = {
        "preset": name,
        "stage": stage,
        "device": device_name(policy.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "weights": count_weights(policy),
        "learning": sum(weight.numel() for weight in learning),
        "seconds": seconds,
        "loss": loss.item(),
        "gradient": norm.item(),
        "finite": bool(torch.isfinite(loss) and torch.isfinite(norm) and torch.isfinite(after).all()),
        "moved": round((after != torch.cat(before)).float().mean().item(), 3),
        "peak_memory_gb": round(peak_memory(policy.device) / 1e9, 2),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "svd")
