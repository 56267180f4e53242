"""What learns in a stage, and the loss it learns by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from videopolicy.backbones.base import Condition
from videopolicy.clips.dataset import ClipBatch
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.loss import Losses, denoising_loss
from videopolicy.errors import UserError
from videopolicy.models.video_action import VideoActionModel
from videopolicy.training import lora
from videopolicy.training.config import Training
from videopolicy.training.noise import StepNoise, draw


class Objective(nn.Module):
    """A policy and its denoising loss as one module, so that wrappers for distribution see a single `forward`."""

    def __init__(self, policy: VideoActionModel, training: Training) -> None:
        super().__init__()
        if training.stage != "video" and policy.head is None:
            raise UserError(f"stage {training.stage!r} needs actions, but no episode has any; use --stage video")
        check_imagines(policy.backbone.imagines, training.stage)
        self.policy = policy
        self.training_config = training
        learns_backbone, learns_head = training.stage != "action", training.stage != "video"
        policy.latents.requires_grad_(False)
        if not learns_backbone or training.lora:
            # Never switched on: a pretrained text encoder stays as it is in every stage.
            policy.text.requires_grad_(False)
        policy.backbone.requires_grad_(learns_backbone)
        if training.lora:
            lora.adapt(policy.backbone, training.lora, training.seed)
        if policy.head is not None:
            policy.head.requires_grad_(learns_head)
        if training.checkpoint_gradients:
            policy.backbone.checkpoint_gradients()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given: the video model and the head, each with its own rate."""
        video = [*self.policy.text.parameters(), *self.policy.backbone.parameters()]
        head = list(self.policy.head.parameters()) if self.policy.head is not None else []
        training = self.training_config
        groups = ((video, training.head_rate if training.lora else training.rate), (head, training.head_rate))
        return [
            {"params": _learning(parameters), "lr": rate, "peak": rate}
            for parameters, rate in groups
            if _learning(parameters)
        ]

    def forward(self, batch: ClipBatch, draws: StepNoise | torch.Generator) -> Losses:
        """The loss of one batch at one noise level a clip.

        Args:
            batch: the clips.
            draws: their noise and what is hidden of each; or a generator, from which these are drawn.
        """
        if isinstance(draws, torch.Generator):
            clips, _, width = batch.actions.shape
            draws = draw(self.policy, self.training_config, clips, width, draws)
        clean = self.clean(batch, draws.seeds)
        sigma, device = draws.sigma.to(self.policy.device), self.policy.device
        noisy = clean + draws.noise.map(lambda part: part.to(device, non_blocking=True)) * sigma
        condition = self.condition(batch, draws.disturbance)
        condition = condition.drop(latents=draws.no_image.to(device), text=draws.no_text.to(device))
        return self._losses(noisy, clean, sigma, condition, batch)

    @torch.no_grad()
    def losses_at(self, batch: ClipBatch, sigma: float, noise: Joint) -> Losses:
        """The loss of a batch at one noise level, with this standard normal noise, nothing dropped or disturbed."""
        clean = self.clean(batch, None)
        noisy = clean + noise * sigma
        sigmas = torch.full((len(clean.video),), sigma, device=self.policy.device)
        return self._losses(noisy, clean, sigmas, self.condition(batch), batch)

    def imagine(self, batch: ClipBatch, noise: Joint) -> Joint:
        """Video latents and normalised actions that the policy draws for the clips of a batch from this noise."""
        return self.policy.sample(self.condition(batch), noise, self.policy.config.sampling)

    def _losses(
        self, noisy: Joint, clean: Joint, sigma: Float[Tensor, "B"], condition: Condition, batch: ClipBatch
    ) -> Losses:
        config, policy = self.training_config, self.policy
        with torch.set_grad_enabled(torch.is_grad_enabled() and config.stage != "action"):
            video, features = policy.denoise_video(noisy.video, sigma, condition)
        actions = clean.actions
        if config.stage != "video":
            detached = config.detach_features and config.stage != "end_to_end"
            read = features.detach() if detached else features
            actions = policy.denoise_actions(noisy.actions, sigma, policy.read(read, sigma))
        has_actions = torch.from_numpy(batch.has_actions).to(policy.device)
        return denoising_loss(Joint(video, actions), clean, sigma, has_actions)

    def clean(self, batch: ClipBatch, seeds: Int64[Tensor, "B"] | None) -> Joint:
        """What a batch shows and does: latents of the flat frames, and normalised actions.

        Args:
            batch: the clips.
            seeds: of what the latents draw for each clip; None takes their most likely values.
        """
        policy, future = self.policy, self._placed(batch.future)
        first = self._placed(batch.current[:, 0])
        if seeds is None:
            latents = policy.latents.sample(future.flatten(0, 2), None).unflatten(0, future.shape[:3])
            pad = policy.latents.sample(first, None)
        else:
            latents, pad = self._sampled(future, first, seeds)
        return Joint(policy.flatten(latents, pad), self._placed(batch.actions))

    def condition(self, batch: ClipBatch, disturbance: Float[Tensor, "B V C h w"] | None = None) -> Condition:
        """What a batch is denoised given; its images are disturbed by this standard normal noise, scaled."""
        current = self._placed(batch.current)
        if disturbance is None:
            return self.policy.condition(current, batch.instructions)
        noise = self.training_config.conditioning_noise * disturbance.to(current, non_blocking=True)
        return self.policy.condition(current, batch.instructions, noise)

    def _sampled(
        self, future: Float[Tensor, "B V T K h w"], first: Float[Tensor, "B K h w"], seeds: Int64[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B V T C h w"], Float[Tensor, "B C h w"]]:
        """Each clip from a generator of its own: what it draws does not depend on the clips beside it."""
        sample, clips, pads = self.policy.latents.sample, [], []
        for codes, start, seed in zip(future, first, seeds.tolist(), strict=True):
            generator = torch.Generator().manual_seed(seed)
            clips.append(sample(codes.flatten(0, 1), generator).unflatten(0, codes.shape[:2]))
            pads.append(sample(start[None], generator))
        return torch.stack(clips), torch.cat(pads)

    def _placed(self, array: np.ndarray) -> Tensor:
        # From pinned memory the device fetches it by itself; from any other this waits, whatever it is told.
        return torch.from_numpy(array).to(self.policy.device, non_blocking=True)


@dataclass(frozen=True)
class Counted:
    """The size of the batch that a process has some clips of.

    Attributes:
        clips: all of them.
        with_actions: of these, those that have actions.
    """

    clips: int
    with_actions: int


def total(losses: Losses, stage: str, of: Counted | None = None, pooled: bool = False) -> Float[Tensor, ""]:
    """What is minimised: the mean over frames, over action steps, or the sum of both means.

    In stage "end_to_end" the video's counts nothing, but is there: distributed training waits for every weight.

    Args:
        losses: of some clips, or all, of a batch.
        stage: what learns.
        of: the whole batch; the totals of its parts add up to its own. None if the losses are all there are.
        pooled: one mean over all frames and action steps together, as the paper's authors do, in stage "joint".
    """
    of = of or Counted(len(losses.video), int(losses.has_actions.sum()))
    frames, steps = of.clips * losses.video.shape[1], of.with_actions * losses.actions.shape[1]
    if stage == "joint" and pooled:
        return (losses.video.sum() + losses.actions.sum()) / (frames + steps)
    video, actions = losses.video.sum() / frames, losses.actions.sum() / max(steps, 1)
    if stage == "video":
        return video
    if stage == "action":
        return actions
    return actions + video * (0 if stage == "end_to_end" else 1)


def check_imagines(imagines: bool, stage: str) -> None:
    """Raises UserError if a stage would teach a video that a model does not draw, or leave its encoder as it is."""
    if not imagines and stage != "end_to_end":
        raise UserError(f"this model draws no video, so stage {stage!r} is not for it; use --stage end_to_end")


def _learning(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
