"""Does Wan2.1-T2V-1.3B run in a machine of 24 GB without a GPU? One pass of `wan_1b`'s video model in bfloat16.

    OMP_NUM_THREADS=1 python experiments/backbones/forward.py > experiments/backbones/forward.json

Random weights, three views of 256 pixels, one clip, as the preset draws it.
"""

import json
import resource
import time

import torch

from videopolicy import registry
from videopolicy.backbones.base import Condition

CLIP = (1, 6, 16, 32, 32)
TOKENS, WIDTH = 512, 4096

if __name__ == "__main__":
    model = registry.entry("presets", "wan_1b").model
    torch.set_default_dtype(torch.bfloat16)
    backbone = model.backbone.build(CLIP[2], WIDTH).eval()
    torch.set_default_dtype(torch.float32)
    backbone.arrange(len(model.views), model.pad, CLIP[-1])
    condition = Condition(torch.randn(CLIP), torch.randn(1, TOKENS, WIDTH))
    start = time.perf_counter()
    with torch.no_grad():
        video, features = backbone.denoise(torch.randn(CLIP), torch.ones(1), condition)
    found = {
        "seconds": round(time.perf_counter() - start, 1),
        "threads": torch.get_num_threads(),
        "most memory, GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1),
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "finite": bool(video.isfinite().all()),
        "tap": list(features.taps[0].shape),
    }
    print(json.dumps(found, indent=1))
