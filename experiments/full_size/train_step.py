"""One training step of every stage, timed, on random clips: `python train_step.py [PRESET] > train_step.json`."""

import json
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from videopolicy import registry
from videopolicy.clips.dataset import ClipBatch
from videopolicy.clips.normalize import MinMax
from videopolicy.hardware import device_name, peak_memory
from videopolicy.presets.base import Preset
from videopolicy.training.setup import build
from videopolicy.training.stages import Objective, total

STEPS = 3


def clips(preset: Preset, codes: int, side: int, size: int) -> ClipBatch:
    """Random clips of the preset's shapes."""
    rng, model = np.random.default_rng(0), preset.model
    shape = (codes, side, side)
    return ClipBatch(
        current=rng.normal(size=(size, len(model.views), *shape)).astype(np.float32),
        future=rng.normal(size=(size, len(model.views), model.window.frames, *shape)).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, model.window.actions, 7)).astype(np.float32),
        has_actions=np.ones(size, bool),
        instructions=["press"] * size,
    )


def main(name: str) -> None:
    """Prints seconds a step (the best of a few) and peak memory, for batches of 1 and 4.

    On a CPU the memory is the process's largest so far: a row never shows less than the one before.
    """
    preset: Preset = registry.entry("presets", name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = build(preset.model, MinMax((-1.0,) * 7, (1.0,) * 7), 0).to(device)
    side, rows = preset.model.size // policy.latents.downsampling, []
    for stage in ("video", "action", "joint"):
        objective = Objective(policy, replace(preset.training, stage=stage))
        optimizer = torch.optim.AdamW(objective.parameter_groups())
        for size in (1, 4):
            batch, generator, seconds = clips(preset, policy.latents.code_channels, side, size), torch.Generator(), []
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            for _ in range(STEPS):
                begun = time.perf_counter()
                with torch.autocast(device.type, torch.bfloat16):
                    loss = total(objective(batch, generator), stage)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                loss.item()
                seconds.append(time.perf_counter() - begun)
            memory = peak_memory(device) / 1e9
            rows.append(
                {"stage": stage, "batch": size, "seconds": round(min(seconds), 3), "memory_gb": round(memory, 2)}
            )
            print(rows[-1], file=sys.stderr, flush=True)
    print(
        json.dumps({"preset": name, "device": device_name(device), "torch": torch.__version__, "steps": rows}, indent=1)
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "svd")
