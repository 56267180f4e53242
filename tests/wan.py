"""What tests of Wan share: a tiny pipeline as diffusers keeps it, and what it draws at given times."""

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
from tests.porting.published import image
from tests.text.t5_folder import write as write_text

from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.flow import flow_time

CHANNELS, SIZE, LENGTH = 4, 32, 12
# Noise levels of what is drawn: so many, from the first, to near zero.
STEPS, FIRST, LAST = 4, 80.0, 0.02
SENTENCE = "press the red button"
SHAPE = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": CHANNELS,
    "out_channels": CHANNELS, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2,
}  # fmt: skip


TRANSFORMERS = ("transformer", "transformer_2")


class Given(FlowMatchEulerDiscreteScheduler):
    """Euler's steps through times that are set beforehand, whatever number of steps is asked for."""

    times: tuple[float, ...] = ()

    def set_timesteps(self, num_inference_steps=None, device=None, **others):
        super().set_timesteps(sigmas=list(self.times), device=device)


def write_pipeline(folder: Path, seed: int = 0, boundary: float | None = None, **changes) -> Path:
    """A tiny WanImageToVideoPipeline of the kind of TI2V-5B; with a boundary of two networks.

    Args:
        folder: where.
        seed: of the weights.
        boundary: flow time at which the second network takes over.
        changes: of the transformers' shape; with more channels in than out, the image stands on channels.
    """
    torch.manual_seed(seed)
    write_text(folder, "umt5", seed=seed)
    shape = {**SHAPE, **changes}
    for part in TRANSFORMERS[: 1 if boundary is None else 2]:
        WanTransformer3DModel(**shape).save_pretrained(folder / part)
    AutoencoderKLWan(
        base_dim=4, decoder_base_dim=4, z_dim=CHANNELS, dim_mult=[1, 1, 2], temperal_downsample=[True, True],
        latents_mean=[0.5, -0.5, 0.0, 1.0], latents_std=[0.5, 1.0, 2.0, 1.0], scale_factor_spatial=4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        **{part: [None, None] for part in ("image_encoder", "image_processor", "transformer_2")},
    }
    parts |= {part: ["diffusers", "WanTransformer3DModel"] for part in TRANSFORMERS if (folder / part).is_dir()}
    index = {"_class_name": "WanImageToVideoPipeline", "_diffusers_version": diffusers.__version__, **parts}
    index |= {"expand_timesteps": shape["in_channels"] == shape["out_channels"], "boundary_ratio": boundary}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def opened(folder: Path, **parts) -> WanImageToVideoPipeline:
    """diffusers' pipeline of a folder."""
    pipeline = WanImageToVideoPipeline.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def levels():
    """Of what is drawn, the last of them zero."""
    return schedule(STEPS, LAST, FIRST)


@torch.no_grad()
def drawn_by(pipeline, model, guidance, kind):
    """What the pipeline draws of a model's text over these levels, and the noise that it begins from."""
    times = flow_time(levels()[:-1])
    pipeline.scheduler = Given()
    pipeline.scheduler.times = tuple(times.tolist())
    noise = torch.randn(1, CHANNELS, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    told = model.text([SENTENCE])
    nothing = torch.cat((model.backbone.empty_prompt.expand(1, 1, -1), torch.zeros(1, LENGTH - 1, 16)), 1)
    return noise, pipeline(
        image(SIZE), prompt_embeds=told, negative_prompt_embeds=nothing, height=SIZE, width=SIZE, num_frames=9,
        num_inference_steps=STEPS, guidance_scale=guidance, latents=noise * times[0], output_type=kind,
    ).frames  # fmt: skip
