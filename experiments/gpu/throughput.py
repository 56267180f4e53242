"""Training steps against a plain loop over diffusers' U-Net: `python throughput.py [PRESET ...] [--json FILE]`."""

import argparse
import gc
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch.nn import functional as F

from videopolicy import registry
from videopolicy.errors import UserError
from videopolicy.hardware import Timing, device_name, matmul_peak, peak_memory, seconds_of
from videopolicy.presets.base import Preset
from videopolicy.training.performance.benchmark import WARM_UP, measure
from videopolicy.training.prepare import build
from videopolicy.training.stages import VIDEO

# Clips a step: what should fit a GPU of 80 GB without gradient checkpointing.
BATCH = {"tiny": 16, "small": 64, "svd": 2}
# What is aimed at: times the plain loop, and of the best matrix product (the full size alone).
FASTER, SHARE = 1.5, 0.4


def plain(preset: Preset, batch: int, recompute: bool, repeats: int, device: torch.device) -> tuple[Timing, int]:
    """A loop as one writes it at first: diffusers' own U-Net, autocast, AdamW; nothing of this project."""
    with torch.device("meta"):
        ours = build(preset.model, None, 0)
    net = UNetSpatioTemporalConditionModel.from_config(ours.backbone.net.config).to(device).train()
    assert sum(w.numel() for w in net.parameters()) == sum(w.numel() for w in ours.backbone.parameters())
    if recompute:
        net.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(net.parameters(), lr=preset.training.lr)
    side, frames, channels = preset.model.size // ours.latents.downsampling, preset.model.flat_frames, net.config
    latents = torch.randn(batch, frames, channels.out_channels, side, side)
    text = torch.randn(batch, getattr(preset.model.text, "length", 1), channels.cross_attention_dim)
    ids = torch.tensor(preset.model.backbone.ids).expand(batch, -1)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> None:
        clean, tokens, added = (tensor.to(device) for tensor in (latents, text, ids))
        sigma = (torch.randn(batch, device=device) * 1.6 + 1).exp()
        noisy = clean + torch.randn_like(clean) * sigma[:, None, None, None, None]
        with torch.autocast(device.type, torch.bfloat16):
            out = net(torch.cat((noisy, clean), 2), sigma.log() / 4, tokens, added).sample
            loss = F.mse_loss(out.float(), clean)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(WARM_UP):
        step()
    return Timing.of([seconds_of(step, device) for _ in range(repeats)]), peak_memory(device)


def attempt(what: str, run: Callable[[], Any]) -> Any:
    """The result, or None if the memory does not suffice; leaves the device empty for the next."""
    try:
        return run()
    except (UserError, torch.OutOfMemoryError) as error:
        print(f"{what}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    finally:
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()


def compare(name: str, batch: int, recompute: bool, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """A row for the plain loop and for each way to train, of the same batch.

    On a CPU the memory is the process's largest so far: a row never shows less than the one before.
    """
    preset: Preset = registry.entry("presets", name)
    recipe = replace(
        preset.training,
        stage=VIDEO,
        batch_size=batch,
        precision="bf16",
        gradient_checkpointing=recompute,
        compile=False,
    )
    peak = matmul_peak(device, torch.bfloat16)
    found = {"plain loop": attempt("plain loop", lambda: plain(preset, batch, recompute, repeats, device))}
    flops = None
    for compiles in (False, True):
        what = "videopolicy, compiled" if compiles else "videopolicy"
        training = replace(recipe, compile=compiles)
        figures = attempt(what, lambda training=training: measure(preset.model, training, repeats))
        found[what] = figures and (figures.step, figures.memory)
        flops = figures.flops if figures else flops
    peak, rows = max(peak, matmul_peak(device, torch.bfloat16)), []
    base = found["plain loop"]
    for what, measured in found.items():
        row: dict[str, Any] = {"preset": name, "batch": batch, "gradient_checkpointing": recompute, "what": what}
        if measured:
            step, memory = measured
            row |= {"clips_per_second": batch * 1e3 / step.median, "ms": step.median, "ms_p90": step.p90}
            row |= {"memory_gb": memory / 1e9, "times_plain": base and base[0].median / step.median}
            row |= {"of_matmul": flops and flops * 1e3 / step.median / peak}
        rows.append(row | {"matmul_tflops": peak / 1e12})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown, with what is aimed at."""
    lines = ["| preset | batch | | clips/s | ms a step | of the bf16 matmul rate | times the plain loop | GB |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        shown = [
            format(row[key], form) if row.get(key) else "-"
            for key, form in (
                ("clips_per_second", ".2f"),
                ("ms", ".0f"),
                ("of_matmul", ".1%"),
                ("times_plain", ".2f"),
                ("memory_gb", ".1f"),
            )
        ]
        lines.append("| " + " | ".join([row["preset"], str(row["batch"]), row["what"], *shown]) + " |")
    return "\n".join([*lines, "", f"aims: {FASTER} times the plain loop; {SHARE:.0%} of the matmul rate for svd"])


def main() -> None:
    """Measures, prints the table, and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=["small", "svd"])
    parser.add_argument("--batch", type=int, help="clips a step; by default what should fit 80 GB")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="in all of them")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device, rows = torch.device("cuda" if torch.cuda.is_available() else "cpu"), []
    for name in given.presets:
        batch = given.batch or BATCH[name]
        rows += compare(name, batch, given.checkpoint_gradients, given.repeats, device)
    print(f"{device_name(device)}, torch {torch.__version__}\n\n{table(rows)}")
    if given.json:
        facts = {"device": device_name(device), "torch": torch.__version__, "aims": [FASTER, SHARE], "rows": rows}
        given.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
