"""The paper's: Stable Video Diffusion with the authors' head, three views of 256 pixels, 2344 million parameters.

The video model has 1525 million of them, the adapter 206, the action denoiser 161; CLIP's text tower and SVD's
autoencoder, both frozen, have the others. It starts from pretrained weights: see `videopolicy import`.
"""

from dataclasses import replace

from videopolicy.backbones import unet
from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.windows import Window
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.noise import joint
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.heads.conv3d import PAPER
from videopolicy.latents import svd
from videopolicy.models.sampling import Sampling
from videopolicy.models.video_action import Config
from videopolicy.presets.base import Preset
from videopolicy.text import clip
from videopolicy.training.config import Training
from videopolicy.training.stages import JOINT

MODEL = Config(
    views=("robot0_eye_in_hand", "robot0_agentview_left", "robot0_agentview_right"),
    size=256,
    # The authors draw the current frame, too: 0, 4, ..., 28 control steps ahead.
    window=Window(frames=8, stride=4, actions=32, first=0),
    pad=1,
    residual=False,
    latents=svd.Config(),
    text=clip.Config(),
    backbone=unet.Config(
        channels=(320, 640, 1280, 1280),
        layers=2,
        head_channels=64,
        attention=(True, True, True, False),
        # Finest first, as the head reads them: the authors' blocks 22, 19, 16, 13 and 9.
        taps=(
            "up_blocks.3.attentions.1",
            "up_blocks.2.attentions.1",
            "up_blocks.1.attentions.1",
            "up_blocks.0.resnets.1",
            "down_blocks.2.downsamplers.0",
        ),
        ids=(6.0, 100.0, 0.02),
        id_width=256,
    ),
    head=PAPER,
    sampling=Sampling(steps=30, sigma_max=700.0, sigma_min=0.002, guidance=LinearGuidance(1.0, 2.5)),
    execute=16,
)

PRESET = Preset(
    model=MODEL,
    training=Training(
        steps=368_866,
        batch_size=32,
        lr=1e-5,
        head_lr=5e-5,
        weight_decay=0.0,
        warmup=0,
        decay=False,
        pool_losses=True,
        noise=joint.Config(LogNormal(1.0, 1.6)),
        text_dropout=0.1,
        image_dropout=0.1,
        dropout_by_frame=True,
        stage=replace(JOINT, through=1.0),
        gradient_checkpointing=True,
        copies=4,
        jitter=ColorJitter(0.2, 0.2, 0.2, 0.05),
    ),
)
