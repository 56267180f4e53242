"""Everything about a training run but the data and the model."""

from dataclasses import dataclass

from videopolicy.clips.augment import ColorJitter
from videopolicy.diffusion.edm import LogNormal
from videopolicy.errors import UserError
from videopolicy.training.choices import Precision, Stage


@dataclass(frozen=True)
class Training:
    """A recipe.

    Attributes:
        stage: what learns: the video model, the head on a frozen video model, or both at once, each by its own loss;
            or, end to end, everything by the action loss alone.
        steps: optimiser steps.
        minutes: if given, wall-clock budget; the learning rate then falls by whichever of the two is further along.
        batch: clips a step, over all processes.
        accumulate: parts that each process takes its share of the batch in, one after the other: less memory, and
            the same gradient.
        precision: of the passes; "no" is float32. Weights, their average and the optimiser stay in float32.
        rate: peak learning rate of the video model.
        head_rate: peak learning rate of the head, and of the adapters of LoRA, which begin as fresh as it does.
        lora: rank of adapters through which alone the video model learns (see `videopolicy.training.lora`); 0 for its
            whole weights.
        weight_decay: of AdamW.
        warmup: steps of linear warm-up.
        decay: whether a cosine down to zero follows; otherwise the rate stays.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, which are what is saved and sampled.
        noise: noise levels that are trained on.
        conditioning_noise: deviation of the noise on the conditioning latents.
        text_dropout: share of clips shown without their instruction.
        image_dropout: share of clips shown without their current images.
        dropout_by_frame: draws both dropouts for every frame by itself, as the paper's authors do, not for every clip.
        pooled: makes the loss of "joint" one mean over all frames and action steps together, as the paper's authors
            do; otherwise it is the sum of both means.
        detach_features: whether the action loss stops at the features ("joint" only).
        checkpoint_gradients: computes the video model's inner values again on the way back: slower, far less memory.
        compile: compiles the blocks of the video model: minutes at the start, and faster steps on a GPU.
        copies: versions of every frame in the latent cache; all but the first are colour-jittered.
        jitter: how far; brightness, contrast, saturation and hue.
        held_out: episodes that are not trained on but measured on; fewer if the data set is too small for it.
        seed: of weights, order, noise and dropout.
        log_every: steps between lines of the log.
        sample_every: steps between sampled videos, and between looks at the episodes held out.
        save_every: steps between checkpoints.
    """

    stage: Stage = "joint"
    steps: int = 2000
    minutes: float | None = None
    batch: int = 16
    accumulate: int = 1
    precision: Precision = "no"
    rate: float = 5e-4
    head_rate: float = 5e-4
    lora: int = 0
    weight_decay: float = 0.01
    warmup: int = 50
    decay: bool = True
    clip: float = 1.0
    ema: float = 0.999
    noise: LogNormal = LogNormal(1.0, 1.6)
    conditioning_noise: float = 0.02
    text_dropout: float = 0.1
    image_dropout: float = 0.0
    dropout_by_frame: bool = False
    pooled: bool = False
    detach_features: bool = True
    checkpoint_gradients: bool = False
    compile: bool = False
    copies: int = 1
    jitter: ColorJitter = ColorJitter()
    held_out: int = 2
    seed: int = 0
    log_every: int = 20
    sample_every: int = 500
    save_every: int = 500

    def __post_init__(self) -> None:
        if self.lora and self.stage == "action":
            raise UserError("--lora is about the video model, which stage 'action' leaves as it is; leave --lora out")
