"""The full-size model evaluated once, with random weights: `python one_step.py [bfloat16|float32] > one_step.json`."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from videopolicy.clips.normalize import Normalizer
from videopolicy.hardware import device_name, peak_memory
from videopolicy.policies.benchmark import count_weights
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.presets.svd import PRESET
from videopolicy.types import Observation


def timed(seconds: dict[str, float], part: str, run: Callable[[], Any]) -> Any:
    """Runs something and notes how long it took."""
    begun = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[part] = round(time.perf_counter() - begun, 2)
    print(part, seconds[part], "s", file=sys.stderr, flush=True)
    return result


def build(dtype: torch.dtype, device: str) -> CheckpointPolicy:
    """The preset with fresh weights, one step a plan."""
    torch.set_default_dtype(dtype)
    model = PRESET.model.build(Normalizer((-1.0,) * 7, (1.0,) * 7))
    torch.set_default_dtype(torch.float32)
    model.latents.float()
    return CheckpointPolicy(model.to(device), replace(PRESET.model.sampling, steps=1))


@torch.inference_mode()
def main(precision: str) -> None:
    """Builds, encodes, denoises once with and once without the instruction (guidance), and decodes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds: dict[str, float] = {}
    policy = timed(seconds, "build", lambda: build(getattr(torch, precision), device))
    model, rng = policy.model, np.random.default_rng(0)
    images = {view: rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for view in policy.spec.views}
    codes = timed(seconds, "encode", lambda: policy.encode([Observation(images, "")]))
    condition = timed(seconds, "text", lambda: model.condition(codes, ["pick the cup from the counter"]))
    noise, sigma = policy.noise([0]), torch.tensor([700.0], device=device)
    video, features = timed(seconds, "video", lambda: model.denoise_video(noise.video * 700, sigma, condition))
    vector = timed(seconds, "adapter", lambda: model.pool_features(features, sigma))
    actions = timed(seconds, "actions", lambda: model.denoise_actions(noise.actions * 700, sigma, vector))
    frames = timed(seconds, "decode", lambda: model.decode(video, codes))
    found = {
        "precision": precision,
        "device": device_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "weights": count_weights(model),
        "finite": bool(torch.isfinite(actions).all() and torch.isfinite(video).all()),
        "shapes": {"video": list(video.shape), "actions": list(actions.shape), "frames": list(frames.shape)},
        "seconds": seconds,
        "peak_memory_gb": round(peak_memory(model.device) / 1e9, 2),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bfloat16")
