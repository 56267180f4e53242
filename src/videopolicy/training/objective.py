"""A model and its denoising loss, and what is minimised of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from videopolicy.backbones.base import Condition
from videopolicy.clips.dataset import ClipBatch
from videopolicy.diffusion.clocks import INVERSE_DYNAMICS
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.loss import Counts, Losses, denoising_loss
from videopolicy.errors import UserError
from videopolicy.models.base import Model
from videopolicy.training import distillation, lora
from videopolicy.training.config import Training
from videopolicy.training.distributed import process_state
from videopolicy.training.noise import StepNoise, counted, counting
from videopolicy.training.shift import shifted
from videopolicy.training.stages import Stage


class Objective(nn.Module):
    """A model and its denoising loss as one module, so that wrappers for distribution see a single `forward`."""

    def __init__(self, model: Model, training: Training, begins: Model | None = None) -> None:
        """Sets free what the stage trains, and nothing else.

        Args:
            model: what learns, in place.
            training: the recipe.
            begins: the model whose weights it began from, which a stage may learn from.

        Raises:
            UserError: the stage, or another part of the recipe, is not for this model.
        """
        super().__init__()
        stage = training.stage
        distillation.check(stage, begins)
        if stage.action_loss and not model.acts:
            raise UserError(f"stage {stage.name!r} needs actions, but no episode has any; use --stage video")
        check_generates_video(model.config.generates_video, stage)
        check_recipe(model, training)
        self.model = model
        self.training_config = training
        self.teacher = distillation.Teacher(begins, model.config.sampling.steps) if begins and stage.distills else None
        # What FSDP2 wraps one by one.
        present = {type(module).__name__ for module in model.backbone.modules()}
        self._no_split_modules = [name for name in model.backbone.repeated_blocks if name in present]
        model.requires_grad_(False)
        model.backbone.requires_grad_(stage.trains_video)
        # A pretrained text encoder stays as it is in every stage, and any that the teacher reads, or nobody.
        fixed = bool(training.lora) or model.text.pretrained or stage.distills or model.reads_motion
        model.text.requires_grad_(stage.trains_video and not fixed)
        if training.lora:
            lora.adapt(model.backbone, training.lora, training.seed)
        for module in model.action_modules:
            module.requires_grad_(stage.trains_actions)
        if training.gradient_checkpointing:
            model.backbone.enable_gradient_checkpointing()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given: the video model and the head, each with its own learning rate."""
        video, head = (
            [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
            for modules in ((self.model.text, self.model.backbone), self.model.action_modules)
        )
        training = self.training_config
        groups = ((video, training.head_lr if training.lora else training.lr), (head, training.head_lr))
        return [{"params": parameters, "lr": rate, "peak": rate} for parameters, rate in groups if parameters]

    def forward(self, batch: ClipBatch, noise: StepNoise) -> Losses:
        """The loss of one batch.

        Args:
            batch: the clips.
            noise: theirs, and what is hidden of each.
        """
        device, batch = self.model.device, shifted(batch, noise.shift)
        clean = self.clean(batch, noise.seeds)
        levels = noise.levels.map(lambda level: level.to(device))
        normal = noise.noise.map(lambda part: part.to(device, non_blocking=True))
        levels = unlabelled(levels, torch.from_numpy(np.asarray(batch.has_actions)), self._highest)
        return self._losses(clean, normal, levels, lambda model: self._given(model, batch, clean, noise))

    def _given(self, model: Model, batch: ClipBatch, clean: Joint, noise: StepNoise) -> tuple[Condition, Counts]:
        """What a model denoises a batch given in a step, and what counts in its loss."""
        condition, device = self._condition(model, batch, noise.conditioning), model.device
        condition = condition.drop(latents=noise.no_image.to(device), text=noise.no_text.to(device))
        condition = condition.hide_state(noise.no_state.to(device))
        has_actions = torch.from_numpy(np.asarray(batch.has_actions))
        return model.reveal(condition, clean, noise.counts, has_actions, noise.seeds)

    @torch.no_grad()
    def losses_at(self, batch: ClipBatch, levels: Levels, noise: Joint) -> Losses:
        """The loss of a batch at these noise levels (0-d), with this standard normal noise, nothing dropped."""
        stage, clean = self.training_config.stage, self.clean(batch, None)
        everywhere = levels.each(clean)
        counts = counted(self.training_config, batch, clean.video.shape[1], everywhere)
        shown = unlabelled(counting(everywhere, stage), torch.from_numpy(np.asarray(batch.has_actions)), self._highest)
        return self._losses(clean, noise, shown, lambda model: (self._condition(model, batch, None), counts))

    def imagine(self, batch: ClipBatch, noise: Joint) -> Joint:
        """Video latents and normalised actions that the model draws for the clips of a batch from this noise.

        One that reads motion is given the true video.
        """
        model, condition, sampling = self.model, self.condition(batch), self.model.config.sampling
        if model.reads_motion:
            return model.predict(condition, noise, sampling, INVERSE_DYNAMICS, self.clean(batch, None))
        return model.sample(condition, noise, sampling)

    def _losses(
        self, clean: Joint, noise: Joint, levels: Levels, given: Callable[[Model], tuple[Condition, Counts]]
    ) -> Losses:
        model, through = self.model, self._through
        condition, counts = given(model)
        wanted = self._wanted(counts)
        counts = Counts(counts.video.to(model.device), counts.actions.to(model.device))
        noisy = clean + noise * levels
        if self.teacher is not None:
            # What is made of image and instruction may be learnt, too: the teacher goes by what it makes of them.
            with torch.no_grad():
                noisy, clean = self.teacher.lesson(clean, noise, levels, given(self.teacher.model)[0])
        if levels.features is None:
            denoised = model.denoise(noisy, levels, condition, through=through, wanted=wanted)
        else:
            # The head reads another pass than the one in which the video is learnt.
            read, learnt = levels.read(), bool(wanted.any())
            video = model.video_alone(noisy, levels, condition) if learnt else noisy.video
            nothing = torch.zeros_like(wanted)
            seen = model.denoise(clean + noise * read, read, condition, through=through, wanted=nothing)
            denoised = Joint(video, seen.actions)
        return denoising_loss(denoised, clean, levels, counts)

    @property
    def _through(self) -> float:
        """The share of the action loss's gradient that goes on: all, to actions that enter a frozen video model."""
        stage = self.training_config.stage
        return 1.0 if self.model.takes_actions and not stage.trains_video else stage.through

    def _wanted(self, counts: Counts) -> Bool[Tensor, "B"]:
        """Of which clips the loss needs the video denoised."""
        wanted = counts.video.any(1)
        # Processes wait for one another at every weight, so that all of them must run the same layers.
        together = self.training_config.stage.trains_video and process_state().num_processes > 1
        every = together or (self.model.takes_actions and not wanted.any())
        return torch.ones_like(wanted) if every else wanted

    def clean(self, batch: ClipBatch, seeds: Int64[Tensor, "B"] | None) -> Joint:
        """What a batch shows and does: latents of the flat frames, and normalised actions.

        Args:
            batch: the clips.
            seeds: of what the latents draw for each clip; None takes their most likely values.
        """
        model, future = self.model, self._placed(batch.future)
        # Of the current images, as many as stand before the future.
        shown = self._placed(batch.current[:, : 1 + max(model.config.leading, default=0)])
        video = model.likeliest(future, shown) if seeds is None else model.flatten(*self._sampled(future, shown, seeds))
        return Joint(video, self._placed(batch.actions))

    def condition(self, batch: ClipBatch) -> Condition:
        """What a batch is denoised given."""
        return self._condition(self.model, batch, None)

    def _condition(self, model: Model, batch: ClipBatch, noise: Float[Tensor, "B V Q h w"] | None) -> Condition:
        """The same by any model; this standard normal noise, scaled, is added to its images' latents."""
        current = self._placed(batch.current)
        states = None if batch.state is None else self._placed(batch.state)
        if noise is not None:
            noise = self.training_config.conditioning_noise * noise.to(current, non_blocking=True)
        return model.condition(current, batch.instructions, noise, states)

    def _sampled(
        self, future: Float[Tensor, "B V T K h w"], shown: Float[Tensor, "B n K h w"], seeds: Int64[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B V T C h w"], Float[Tensor, "B n C h w"]]:
        """Each clip from a generator of its own: what it draws does not depend on the clips beside it."""
        sample, clips, images = self.model.latents.sample, [], []
        for codes, current, seed in zip(future, shown, seeds.tolist(), strict=True):
            generator = torch.Generator().manual_seed(seed)
            clips.append(sample(codes.flatten(0, 1), generator).unflatten(0, codes.shape[:2]))
            images.append(sample(current, generator))
        return torch.stack(clips), torch.stack(images)

    @property
    def _highest(self) -> float:
        return self.model.config.sampling.sigma_max

    def _placed(self, array: np.ndarray) -> Tensor:
        # From pinned memory the device fetches it by itself; from any other this waits, whatever it is told.
        return torch.from_numpy(array).to(self.model.device, non_blocking=True)


@dataclass(frozen=True)
class Counted:
    """How much counts in the loss of a whole batch, of which a process may have some clips only.

    Attributes:
        frames: of all clips.
        steps: action steps of all clips.
    """

    frames: int
    steps: int

    @classmethod
    def of(cls, counts: Counts) -> "Counted":
        """The size of a batch of which this counts."""
        return cls(int(counts.video.sum()), int(counts.actions.sum()))


def total(losses: Losses, of: Counted | None = None, pool_losses: bool = False) -> Float[Tensor, ""]:
    """What is minimised: the sum of the mean over the frames and the mean over the action steps that count.

    What does not count is zero, but is there: distributed training waits for every weight.

    Args:
        losses: of some clips, or all, of a batch.
        of: the whole batch; the totals of its parts add up to its own. None if the losses are all there are.
        pool_losses: one mean over all frames and action steps together, as the paper's authors do.
    """
    of = of or Counted.of(losses.counts)
    if pool_losses:
        return (losses.video.sum() + losses.actions.sum()) / max(of.frames + of.steps, 1)
    return losses.actions.sum() / max(of.steps, 1) + losses.video.sum() / max(of.frames, 1)


def unlabelled(levels: Levels, has_actions: Bool[Tensor, "B"], sigma_max: float) -> Levels:
    """The same noise levels, but the highest one for actions that nobody recorded: nothing but noise is shown of them.

    A model that takes noisy actions would else learn that in a video without actions the robot's are the mean ones.
    UWM (Zhu et al. 2025, arXiv 2504.02792) trains on such clips at its highest level, too.

    Args:
        levels: of each clip, (B,).
        has_actions: which clips have actions.
        sigma_max: the level at which sampling starts.
    """
    actions = torch.where(has_actions.to(levels.actions.device), levels.actions, sigma_max)
    return Levels(levels.video, actions, levels.features)


def check_generates_video(generates_video: bool, stage: Stage) -> None:
    """Raises UserError if a stage would teach video to a model that has none, or leave its encoder as it is."""
    if not generates_video and (stage.video_loss or not stage.trains_video):
        raise UserError(f"this model generates no video, so stage {stage.name!r} is not for it; use --stage end_to_end")


def check_recipe(model: Model, training: Training) -> None:
    """Raises UserError if a recipe asks for what would do nothing to this model, or leave nothing of its images."""
    side = model.config.size // model.latents.downsampling
    if training.random_shift >= side:
        raise UserError(f"--random-shift {training.random_shift} leaves nothing of {side} latent pixels; give less")
    if training.state_dropout and model.acts and not model.config.proprioception:
        raise UserError("--state-dropout hides a state that this model does not read; add --proprioception")
