"""From a file of sgm's through a checkpoint to a folder of diffusers, whose pipeline draws what the model draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel
from PIL import Image
from tests.disk import modes, umask
from tests.porting.weights import VIDEO, safe, svd_weights, text_weights
from tests.small import same, small_model
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from videopolicy import checkpoint
from videopolicy.backbones.base import Condition
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Joint
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.porting.convert import convert
from videopolicy.porting.export import export

pytestmark = pytest.mark.slow

FRAMES, SIZE, STEPS = 3, 64, 3
# The pipeline is told frames a second, and tells the U-Net one less; the others are the U-Net's own constants.
TOLD = {"fps": 7, "motion_bucket_id": 100, "noise_aug_strength": 0.02}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model that a file of sgm's becomes, once it was saved and loaded."""
    folder = tmp_path_factory.mktemp("imported")
    ported = convert(safe(svd_weights(), folder / "svd_xt.safetensors"), VIDEO)
    checkpoint.save(ported.model, checkpoint.Provenance("video", 0), folder / "checkpoint")
    return checkpoint.load(folder / "checkpoint")[0]


@pytest.fixture(scope="module")
def image_encoder(tmp_path_factory):
    """A small one, as wide as the model's text."""
    folder = tmp_path_factory.mktemp("seeing")
    sizes = {"hidden_size": 32, "intermediate_size": 32, "projection_dim": 48, "image_size": 224, "patch_size": 56}
    config = CLIPVisionConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    return folder


@pytest.fixture(scope="module")
def exported(model, image_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "diffusers"
    export(model, folder, image_encoder)
    return folder


def test_its_files_have_the_modes_that_the_umask_gives(model, tmp_path):
    with umask(0o007):
        export(model, tmp_path / "out")
    assert modes(tmp_path / "out") == ({0o660}, {0o770})


@torch.no_grad()
def test_the_pipeline_draws_what_the_policy_draws(model, exported):
    pipeline = StableVideoDiffusionPipeline.from_pretrained(exported)
    pipeline.set_progress_bar_config(disable=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8))
    noise = torch.randn(1, FRAMES, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(1))
    guidance = LinearGuidance(1.0, 2.5)
    drawn = {
        kind: pipeline(
            image, SIZE, SIZE, FRAMES, STEPS, None, guidance.first, guidance.last,
            latents=noise, generator=torch.Generator().manual_seed(2), output_type=kind, **TOLD,
        ).frames
        for kind in ("latent", "pt")
    }  # fmt: skip
    pixels = pipeline.video_processor.preprocess(image, SIZE, SIZE)
    disturbed = pixels + TOLD["noise_aug_strength"] * torch.randn(
        pixels.shape, generator=torch.Generator().manual_seed(2)
    )
    current = model.latents.vae.encode(disturbed).latent_dist.mode()
    text = pipeline._encode_image(image, "cpu", 1, False)
    condition = Condition(current[:, None].expand(-1, FRAMES, -1, -1, -1), text)
    sampled = model.sample(
        condition, Joint(noise, torch.zeros(1, 32, 0)), Sampling("euler", STEPS, 700.0, 0.002, guidance)
    )
    assert drawn["latent"].std() > 0.1
    torch.testing.assert_close(sampled.video, drawn["latent"], rtol=1e-4, atol=1e-4)
    frames = (model.latents.pixels(drawn["latent"][0]) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(frames, drawn["pt"][0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_its_parts_open_alone_and_compute_the_same(model, exported):
    unet = UNetSpatioTemporalConditionModel.from_pretrained(exported, subfolder="unet")
    vae = AutoencoderKLTemporalDecoder.from_pretrained(exported, subfolder="vae")
    assert type(unet) is UNetSpatioTemporalConditionModel
    assert (unet.config.num_frames, unet.config.sample_size) == (25, 32)
    assert same(unet, model.backbone.net) and same(vae, model.latents.vae)
    assert vae.config.scaling_factor == 0.18215
    x, text = torch.randn(1, FRAMES, 8, 8, 8), torch.randn(1, 1, 48)
    level = torch.tensor([0.3])
    ours, _ = model.backbone(x[:, :, :4], Condition(x[:, :, 4:], text), level)
    theirs = unet(x, level, text, model.backbone.ids[None], return_dict=False)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_what_was_exported_is_imported_to_the_bit(model, exported, tmp_path):
    clip = safe(text_weights(), tmp_path / "open_clip_model.safetensors")
    # Its description tells the width of attention heads, which the weights do not.
    template = replace(VIDEO, backbone=replace(VIDEO.backbone, head_channels=32))
    ported = convert(str(exported), template, clip)
    assert same(ported.model, model) and ported.model.config == model.config
    assert [row.source for row in ported.rows] == ["unet/", "vae/", "open_clip_model.safetensors"]


def test_without_an_image_encoder_the_pipeline_opens_when_told_so(model, tmp_path):
    export(model, tmp_path / "out")
    none = {"image_encoder": None, "feature_extractor": None}
    pipeline = StableVideoDiffusionPipeline.from_pretrained(tmp_path / "out", **none)
    assert pipeline.image_encoder is None and same(pipeline.unet, model.backbone.net)
    assert pipeline.scheduler.config.sigma_max == 700.0


def test_half_precision_is_kept(model, tmp_path):
    checkpoint.save(model, checkpoint.Provenance("video", 0), tmp_path / "checkpoint")
    half, _ = checkpoint.load(tmp_path / "checkpoint", dtype=torch.float16)
    export(half, tmp_path / "out")
    kind = torch.float16
    unet = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "out", subfolder="unet", torch_dtype=kind)
    assert same(unet, half.backbone.net)


def test_a_folder_for_14_frames_is_refused(exported, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "vae").symlink_to(exported / "vae")
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        text = (exported / "unet" / name).read_bytes()
        (tmp_path / "unet" / name).write_bytes(text.replace(b'"num_frames": 25', b'"num_frames": 14'))
    clip = safe(text_weights(), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(UserError, match=r"draws 14 frames, this model 25; use stable-video-diffusion-img2vid-xt"):
        convert(str(tmp_path), VIDEO, clip)


def test_a_folder_that_is_not_whole_is_refused(exported, tmp_path):
    clip = safe(text_weights(), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(UserError, match="has no folder unet"):
        convert(str(tmp_path), VIDEO, clip)
    (tmp_path / "unet").mkdir()
    with pytest.raises(UserError, match=r"unet/config\.json: no such file"):
        convert(str(tmp_path), VIDEO, clip)
    (tmp_path / "unet/config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.safetensors: no such file"):
        convert(str(tmp_path), VIDEO, clip)
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        convert(str(tmp_path), VIDEO, clip)
    safe({"x": torch.ones(1)}, tmp_path / "unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match=r"config\.json: does not describe"):
        convert(str(tmp_path), VIDEO, clip)


def test_what_diffusers_does_not_know_is_refused(model, exported, image_encoder, tmp_path):
    with pytest.raises(UserError, match="only a model on SVD's latents"):
        export(small_model(), tmp_path / "out")
    with pytest.raises(UserError, match="exists"):
        export(model, exported)
    with pytest.raises(UserError, match="no folder image_encoder"):
        export(model, tmp_path / "out", tmp_path)
    (tmp_path / "feature_extractor").mkdir()
    (tmp_path / "image_encoder").mkdir()
    (tmp_path / "image_encoder/config.json").write_text('{"projection_dim": 1024}', encoding="utf-8")
    with pytest.raises(UserError, match="tokens are 1024 wide, this model attends to 48"):
        export(model, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()
