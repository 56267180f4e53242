"""A model's video model as a folder that diffusers opens, in the layout of the pipeline that draws as it does."""

import json
import shutil
from pathlib import Path
from typing import cast

import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from videopolicy.backbones.transformer import VideoTransformer
from videopolicy.backbones.unet import UNet
from videopolicy.durable import usual_modes
from videopolicy.errors import UserError
from videopolicy.latents.svd import SVD
from videopolicy.models.base import Model
from videopolicy.models.sampling import Sampling
from videopolicy.models.video_action import VideoActionModel
from videopolicy.porting.convert import FAMILIES
from videopolicy.porting.layout import INDEX, PipelineLayout, transformer_layout

# Of the pipeline's parts, those that a model does not have.
SEEING = {"image_encoder": "CLIPVisionModelWithProjection", "feature_extractor": "CLIPImageProcessor"}


def export(model: Model, out: Path, image_encoder: Path | None = None) -> None:
    """Writes the video model, `vae/`, `scheduler/` and `model_index.json` as the pipeline of its family has them.

    Args:
        model: its head and its text stay behind.
        out: a folder that is not there yet.
        image_encoder: a folder of Stable Video Diffusion, whose `image_encoder/` and `feature_extractor/` are copied:
            diffusers' pipeline shows the U-Net an image where a model shows it text.

    Raises:
        UserError: diffusers has no pipeline of this model; `out` is there; or the image encoder is not there, does not
            fit, or has no place in the pipeline.
    """
    layout = _layout(model)
    if out.exists():
        raise UserError(f"{out} exists; choose another --out or remove it")
    if image_encoder is not None:
        if not layout.sees:
            raise UserError(f"--image-encoder is for Stable Video Diffusion; {layout.index['_class_name']} has none")
        _check_encoder(image_encoder, model.text.width)
        layout.index.update({part: ["transformers", name] for part, name in SEEING.items()})
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for name, part in layout.parts.items():
            part.save_pretrained(aside / name)
        if image_encoder is not None:
            for part in SEEING:
                shutil.copytree(image_encoder / part, aside / part)
        (aside / INDEX).write_text(json.dumps(layout.index, indent=2) + "\n", encoding="utf-8")
        usual_modes(aside)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _layout(model: Model) -> PipelineLayout:
    """What is written of a model.

    Raises:
        UserError: diffusers has no pipeline of it.
    """
    if isinstance(model, VideoActionModel) and not model.config.residual:
        if isinstance(model.backbone, UNet) and isinstance(model.latents, SVD):
            parts = {"unet": _plain(model.backbone, model), "vae": model.latents.vae}
            parts |= {"scheduler": _scheduler(model.config.sampling)}
            return PipelineLayout.of("StableVideoDiffusionPipeline", parts, absent=tuple(SEEING), sees=True)
        for family in FAMILIES:
            if isinstance(model.backbone, VideoTransformer) and family.fits(model.backbone.shape):
                return transformer_layout(model, model.backbone, family)
    raise UserError(
        "only a model on SVD's latents and U-Net, such as preset svd, or on Wan's latents and a published transformer, "
        "such as cosmos_2b, is one that diffusers knows"
    )


def _plain(unet: UNet, model: Model) -> UNetSpatioTemporalConditionModel:
    """The U-Net as diffusers' own class, with the same weights in memory."""
    side = model.config.size // model.latents.downsampling
    facts = {**unet.net.config, "num_frames": model.config.flat_frames, "sample_size": side}
    # diffusers notes here what was left at its default, and would put the default there again.
    facts.pop("_use_default_values", None)
    with torch.device("meta"):
        plain = cast(UNetSpatioTemporalConditionModel, UNetSpatioTemporalConditionModel.from_config(facts))
    plain.load_state_dict(unet.net.state_dict(), assign=True)
    return plain


def _scheduler(sampling: Sampling) -> EulerDiscreteScheduler:
    """Stable Video Diffusion's; with these noise levels it takes the steps of `samplers.euler`."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=sampling.sigma_min,
        sigma_max=sampling.sigma_max,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )


def _check_encoder(folder: Path, width: int) -> None:
    for part in SEEING:
        if not (folder / part).is_dir():
            raise UserError(f"{folder}: no folder {part} in it; give a folder of Stable Video Diffusion")
    path = folder / "image_encoder" / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["projection_dim"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: does not describe an image encoder ({error!r})") from error
    if found != width:
        raise UserError(f"{path}: its tokens are {found} wide, this model attends to {width}")
