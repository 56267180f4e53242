"""Training steps of a preset against a plain loop over diffusers' U-Net, stage video: `throughput.py PRESET ...`."""

from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from shared import DEVICE, begin, chosen
from torch.nn import functional as F

from videopolicy.backbones import unet
from videopolicy.hardware import Timing, matmul_peak, peak_memory, seconds_of
from videopolicy.models.base import ModelConfig
from videopolicy.models.video_action import Config
from videopolicy.presets.base import Preset
from videopolicy.training.performance.benchmark import WARM_UP, measure
from videopolicy.training.prepare import build
from videopolicy.training.stages import VIDEO

# Clips a step, without gradient checkpointing: what should fit a GPU of 80 GB, and one with more.
CLIPS = {"small": (64, 64), "svd": (2, 4)}
LARGE = 100e9
REPEATS = 20


def main() -> None:
    """A row for the plain loop and for each way to train, of the same batch."""
    given, rows = begin(__doc__)
    name = given.what[0]
    preset = chosen(name, given.dry)
    clips, repeats = (2, 2) if given.dry else (CLIPS[name][memory() > LARGE], REPEATS)
    rows.attempt(partial(plain, preset, clips, repeats), what="plain loop", clips=clips)
    for compiles in (False, True):
        what = "videopolicy, compiled" if compiles else "videopolicy"
        rows.attempt(partial(ours, preset, clips, repeats, compiles), what=what, clips=clips)
    compare(rows.rows, matmul_peak(DEVICE, torch.bfloat16))
    rows.save()


def memory() -> float:
    """Bytes of the GPU."""
    return torch.cuda.get_device_properties(DEVICE).total_memory if DEVICE.type == "cuda" else 0.0


def compare(rows: list[dict[str, Any]], peak: float) -> None:
    """Adds what follows from the rows of one another; both loops need the same operations."""
    flops = next((row["gflop"] * 1e9 for row in rows if "gflop" in row), None)
    base = rows[0].get("ms")
    for row in rows:
        if ms := row.get("ms"):
            row |= {"of_bf16_matmul": flops and flops * 1e3 / ms / peak, "times_plain": base and base / ms}


def row(clips: int, timing: Timing, used: int) -> dict[str, Any]:
    """What is told of either loop."""
    rates = {"clips_per_second": clips * 1e3 / timing.median, "ms": timing.median, "ms_p95": timing.p95}
    return {**rates, "gb": used / 1e9}


def ours(preset: Preset, clips: int, repeats: int, compiles: bool) -> dict[str, Any]:
    """The project's own step, as `videopolicy bench --train` measures it."""
    changes = {"precision": "bf16", "gradient_checkpointing": False, "compile": compiles}
    found = measure(preset.model, replace(preset.training, stage=VIDEO, batch_size=clips, **changes), repeats)
    return row(clips, found.step, found.memory) | {"gflop": found.flops / 1e9}


def plain(preset: Preset, clips: int, repeats: int) -> dict[str, Any]:
    """A loop as one writes it at first: diffusers' own U-Net, autocast, AdamW; nothing of this project.

    Its text tokens are random, where ours reads instructions.
    """
    config, net = preset.model, unet_like(preset.model)
    shape = cast(unet.Config, cast(Config, config).backbone)
    optimizer = torch.optim.AdamW(net.parameters(), lr=preset.training.lr)
    channels, side = net.config, config.size // config.latents.build().downsampling
    latents = torch.randn(clips, config.flat_frames, channels.out_channels, side, side)
    text = torch.randn(clips, getattr(config.text, "length", 1), channels.cross_attention_dim)
    ids = torch.tensor(shape.ids).expand(clips, -1)

    def step() -> None:
        clean, tokens, added = (tensor.to(DEVICE) for tensor in (latents, text, ids))
        sigma = (torch.randn(clips, device=DEVICE) * 1.6 + 1).exp()
        noisy = clean + torch.randn_like(clean) * sigma[:, None, None, None, None]
        with torch.autocast(DEVICE.type, torch.bfloat16):
            out = net(torch.cat((noisy, clean), 2), sigma.log() / 4, tokens, added).sample
            loss = F.mse_loss(out.float(), clean)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats(DEVICE)
    for _ in range(WARM_UP):
        step()
    return row(clips, Timing.of([seconds_of(step, DEVICE) for _ in range(repeats)]), peak_memory(DEVICE))


def unet_like(config: ModelConfig) -> Any:
    """Diffusers' U-Net of the same size as a preset's."""
    with torch.device("meta"):
        ours = build(config, None, 0)
    with DEVICE:
        shape: Any = cast(unet.UNet, ours.backbone).net.config
        net = cast(torch.nn.Module, UNetSpatioTemporalConditionModel.from_config(shape))
    assert sum(w.numel() for w in net.parameters()) == sum(w.numel() for w in ours.backbone.parameters())
    return net.to(DEVICE).train()


if __name__ == "__main__":
    main()
