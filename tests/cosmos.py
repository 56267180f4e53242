"""What tests of Cosmos share: diffusers' own transformer and pipeline, which run without torchvision, too."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import diffusers
import torch
from diffusers import (
    AutoencoderKLWan,
    Cosmos2_5_PredictBasePipeline,
    Cosmos2VideoToWorldPipeline,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.models.transformers import transformer_cosmos
from diffusers.models.transformers.transformer_cosmos import CosmosTransformer3DModel
from tests.text import reason1_folder, t5_folder


def without_torchvision(monkeypatch) -> None:
    """Where torchvision is absent, the mask of padded pixels, all zeros, is resized by torch."""
    if find_spec("torchvision") is None:
        resize = SimpleNamespace(resize=lambda mask, size, interpolation: torch.nn.functional.interpolate(mask, size))
        modes = SimpleNamespace(NEAREST="nearest")
        transforms = SimpleNamespace(functional=resize, InterpolationMode=modes)
        monkeypatch.setattr(transformer_cosmos, "transforms", transforms, raising=False)


def stock(net) -> CosmosTransformer3DModel:
    """diffusers' transformer as it builds it of a description, with the same weights."""
    other = CosmosTransformer3DModel.from_config(dict(net.config)).eval()
    other.load_state_dict(net.state_dict())
    return other


class Permissive:
    """Stands where a pipeline wants NVIDIA's guardrail, which is no part of what is drawn."""

    def to(self, device):
        """Nothing to move."""

    def check_text_safety(self, prompt):
        return True

    def check_video_safety(self, frames):
        return frames


def write_pipeline(folder: Path, seed: int = 0, **changes) -> Path:
    """A tiny Cosmos2VideoToWorldPipeline as diffusers keeps it, without guardrail; its autoencoder draws nothing."""
    t5_folder.write(folder, seed=seed)
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    texts = {"text_encoder": "T5EncoderModel", "tokenizer": "T5TokenizerFast"}
    return _write_parts(folder, seed, "Cosmos2VideoToWorldPipeline", scheduler, texts, changes)


def write_pipeline_2_5(folder: Path, seed: int = 0, **changes) -> Path:
    """A tiny Cosmos2_5_PredictBasePipeline, likewise."""
    reason1_folder.write(folder, seed=seed)
    scheduler = UniPCMultistepScheduler(
        use_karras_sigmas=True, use_flow_sigmas=True, prediction_type="flow_prediction", sigma_max=200.0, sigma_min=0.01
    )
    texts = {"text_encoder": "Qwen2_5_VLForConditionalGeneration", "tokenizer": "Qwen2Tokenizer"}
    projection = {
        "use_crossattn_projection": True, "crossattn_proj_in_channels": reason1_folder.WIDTH,
        "encoder_hidden_states_channels": 16,
    }  # fmt: skip
    return _write_parts(folder, seed, "Cosmos2_5_PredictBasePipeline", scheduler, texts, {**projection, **changes})


def _write_parts(folder: Path, seed: int, pipeline: str, scheduler, texts, changes) -> Path:
    torch.manual_seed(seed)
    shape = {
        "in_channels": 5, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2,
        "mlp_ratio": 2.0, "text_embed_dim": 16, "adaln_lora_dim": 8, "max_size": (128, 240, 240),
        "patch_size": (1, 2, 2), "rope_scale": (1.0, 3.0, 3.0), "extra_pos_embed_type": None,
    }  # fmt: skip
    CosmosTransformer3DModel(**{**shape, **changes}).save_pretrained(folder / "transformer")
    vae = AutoencoderKLWan(
        base_dim=4, decoder_base_dim=4, z_dim=4, dim_mult=[1, 1, 2], temperal_downsample=[True, True],
        latents_mean=[0.5, -0.5, 0.0, 1.0], latents_std=[0.5, 1.0, 2.0, 1.0], scale_factor_spatial=4,
    )  # fmt: skip
    # The pipeline conditions on a draw, a model on the mode: here they are the same.
    vae.quant_conv.weight.data[4:] = 0
    vae.quant_conv.bias.data[4:] = -1000
    vae.save_pretrained(folder / "vae")
    scheduler.save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", type(scheduler).__name__],
        **{name: ["transformers", kind] for name, kind in texts.items()},
        "transformer": ["diffusers", "CosmosTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    index = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__, **parts}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def opened(folder: Path, kind=Cosmos2VideoToWorldPipeline, **parts):
    """diffusers' pipeline of a folder, of this kind."""
    pipeline = kind.from_pretrained(folder, safety_checker=Permissive(), **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def opened_2_5(folder: Path, steps: int, **parts) -> Cosmos2_5_PredictBasePipeline:
    """diffusers' pipeline of Predict2.5, which takes steps of the first order: those are Euler's."""
    pipeline = opened(folder, Cosmos2_5_PredictBasePipeline, **parts)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, solver_order=1, disable_corrector=list(range(steps))
    )
    return pipeline
