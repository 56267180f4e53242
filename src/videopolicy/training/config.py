"""Everything about a training run but the data and the model."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from videopolicy import registry
from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.normalize import Method
from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.noise import joint
from videopolicy.errors import UserError, unknown
from videopolicy.training.stages import JOINT, STAGES, Stage

Precision = Literal["no", "bf16", "fp16"]

OFTEN = (1, 10**9)
# A float32 holds it; no training is anywhere near.
LARGE = 1e30
# Beyond this, ordinary samplers do.
MOST_STUDENT_STEPS = 4


def _stage_named(texts: list[str]) -> Stage:
    if texts[0] not in STAGES:
        raise unknown("stage", texts[0], STAGES)
    return STAGES[texts[0]]


def _law_named(texts: list[str]) -> Any:
    return registry.entry("noise", texts[0])()


# On a command line, a stage and a noise law are chosen by name.
StageOption = Annotated[
    Stage,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(STAGES) + "}",
        instance_from_str=_stage_named,
        is_instance=lambda value: isinstance(value, Stage),
        str_from_instance=lambda stage: [stage.name],
    ),
]
LawOption = Annotated[
    Any,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(registry.names("noise")) + "}",
        instance_from_str=_law_named,
        is_instance=lambda value: True,
        str_from_instance=lambda law: list((registry.plugin_of(type(law)) or ("", ""))[1:]),
    ),
]


@dataclass(frozen=True)
class Training:
    """A recipe. Each field but `jitter` is an option of `videopolicy train`."""

    stage: StageOption = JOINT
    """What learns: the video model (video), the head on a frozen video model (action), both, each by its own loss
    (joint) or the video model by both (attached), or everything by the action loss alone (end_to_end); or both learn to
    arrive in few steps where the policy of --init arrives in many (distill)."""
    student_steps: int = limited(1, 1, MOST_STUDENT_STEPS)
    """Stage distill: the steps in which the student then acts."""
    steps: int = limited(2000, 1, 10**9)
    """Optimiser steps. With --resume, more of them draw the decay of the learning rate out: it rises again, to what
    the longer run has at that step."""
    minutes: float | None = limited(None, 0.001, 10**6)
    """Wall-clock budget; the learning rate then falls by whichever of the two is further along."""
    batch_size: int = limited(16, 1, 2**16)
    """Clips a step, over all processes."""
    accumulate: int = limited(1, 1, 2**16)
    """Parts in which each process takes its share of a batch, one after the other: less memory, the same gradient."""
    precision: Precision = "no"
    """Of the passes; "no" is float32. Weights, their average and the optimiser stay in float32."""
    lr: float = limited(5e-4, 0, LARGE)
    """Peak learning rate of the video model."""
    head_lr: float = limited(5e-4, 0, LARGE)
    """Peak learning rate of the head, and of LoRA's adapters, which begin as fresh as it does."""
    lora: int = limited(0, 0, 1024)
    """Rank of adapters through which alone the video model learns, for one GPU; 0 trains all of it. Needs --init."""
    weight_decay: float = limited(0.01, 0, LARGE)
    """Of AdamW."""
    warmup: int = limited(50, 0, 10**9)
    """Steps of linear warm-up."""
    decay: bool = True
    """Whether a cosine down to zero follows; otherwise the learning rate stays."""
    max_grad_norm: float = limited(1.0, 1e-9, 10**12)
    """Largest gradient norm; longer gradients are scaled down to it."""
    ema_decay: float = limited(0.999, 0, 1)
    """Decay of the averaged weights (EMA), which are what is saved and sampled."""
    noise: LawOption = joint.Config()
    """The noise law: at which noise levels video and actions are trained together."""
    conditioning_noise: float = limited(0.02, 0, 10**3)
    """Standard deviation of the noise on the conditioning latents."""
    text_dropout: float = limited(0.1, 0, 1)
    """Share of clips shown without their instruction."""
    image_dropout: float = limited(0.0, 0, 1)
    """Share of clips shown without their current images."""
    state_dropout: float = limited(0.0, 0, 1)
    """Share of clips shown without the robot's state, if the model reads it (--proprioception)."""
    random_shift: int = limited(0, 0, 1024)
    """Latent pixels by which the images of each view of a clip are shifted at most, current and future ones alike,
    with their edges repeated. Of latents with a still picture, what differs from it is shifted alone."""
    video_share: float = limited(1.0, 0, 1)
    """Share of the steps in which the video of clips with actions is learnt, too, where both are: it is most of a
    step's cost. That of clips without actions is learnt in every step."""
    dropout_by_frame: bool = False
    """Draw the dropouts of text and images for every frame by itself, as the paper's authors do, not for every clip."""
    pool_losses: bool = False
    """One mean over all frames and action steps together, as the paper's authors do, not the sum of both means."""
    gradient_checkpointing: bool = False
    """Recompute activations of the video model in the backward pass: slower, far less memory."""
    compile: bool = False
    """Compile the repeated blocks of the video model: minutes at the start, and faster steps on a GPU."""
    copies: int = limited(1, 1, 10**4)
    """Versions of every frame in the latent cache; all but the first are colour-jittered."""
    jitter: tyro.conf.Suppress[ColorJitter] = ColorJitter()
    normalize: Method = "minmax"
    """What of each action dimension becomes -1 and 1: its smallest and largest value (minmax), or its 1 % and 99 %
    quantiles, with what lies beyond them clipped (quantile); or its mean less or plus its standard deviation, so that
    small motions count as large ones do (std). With --init, a head that has learnt keeps its own."""
    validation_episodes: int = limited(2, 0, 10**6)
    """Episodes that are measured on and not trained on; fewer if the data set is too small for it."""
    seed: int = limited(0, 0, 2**32)
    """Of fresh weights, order, noise and dropout."""
    log_every: int = limited(20, *OFTEN)
    """Steps between lines of the log."""
    validate_every: int = limited(500, *OFTEN)
    """Steps between measurements of the validation episodes, with a sampled video."""
    save_every: int = limited(500, *OFTEN)
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.accumulate > self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} clips cannot be divided in {self.accumulate} parts; it needs at least "
                f"{self.accumulate} clips"
            )
        if self.lora and not self.stage.trains_video:
            raise UserError(
                f"--lora is about the video model, which stage {self.stage.name!r} leaves as it is; leave --lora out"
            )

        if self.student_steps > 1 and not self.stage.distills:
            raise UserError(f"--student-steps is about --stage distill, not {self.stage.name!r}; leave it out")

    def own_stage(self, name: str) -> Stage:
        """The stage that a name chooses beside this recipe: the recipe's own if it is called so."""
        return self.stage if self.stage.name == name else STAGES[name]

    def resolve(self, sigma_max: float) -> "Training":
        """The recipe for a model whose sampling starts at this noise level; see `NoiseLaw.resolve`."""
        return replace(self, noise=self.noise.resolve(sigma_max))
