"""What tests of Wan share: a tiny pipeline as diffusers keeps it, and one that takes steps at given times."""

import json
from pathlib import Path

import diffusers
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from tests.text.t5_folder import write as write_text

CHANNELS = 4
SHAPE = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": CHANNELS,
    "out_channels": CHANNELS, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2,
}  # fmt: skip


class Given(FlowMatchEulerDiscreteScheduler):
    """Euler's steps through times that are set beforehand, whatever number of steps is asked for."""

    times: tuple[float, ...] = ()

    def set_timesteps(self, num_inference_steps=None, device=None, **others):
        super().set_timesteps(sigmas=list(self.times), device=device)


def write_pipeline(folder: Path, seed: int = 0, **changes) -> Path:
    """A tiny WanImageToVideoPipeline of the kind of TI2V-5B."""
    torch.manual_seed(seed)
    write_text(folder, "umt5", seed=seed)
    WanTransformer3DModel(**{**SHAPE, **changes}).save_pretrained(folder / "transformer")
    AutoencoderKLWan(
        base_dim=4, decoder_base_dim=4, z_dim=CHANNELS, dim_mult=[1, 1, 2], temperal_downsample=[True, True],
        latents_mean=[0.5, -0.5, 0.0, 1.0], latents_std=[0.5, 1.0, 2.0, 1.0], scale_factor_spatial=4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        **{part: [None, None] for part in ("image_encoder", "image_processor", "transformer_2")},
    }
    index = {"_class_name": "WanImageToVideoPipeline", "_diffusers_version": diffusers.__version__, **parts}
    index |= {"expand_timesteps": True, "boundary_ratio": None}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def opened(folder: Path, **parts) -> WanImageToVideoPipeline:
    """diffusers' pipeline of a folder."""
    pipeline = WanImageToVideoPipeline.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
