"""What learns in a stage, and the loss it learns by."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.base import Condition
from videopolicy.clips.dataset import ClipBatch
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.loss import Losses, denoising_loss
from videopolicy.errors import UserError
from videopolicy.model import VideoPolicy
from videopolicy.training.config import Training


class Objective(nn.Module):
    """A policy and its denoising loss as one module, so that wrappers for distribution see a single `forward`."""

    def __init__(self, policy: VideoPolicy, training: Training) -> None:
        super().__init__()
        if training.stage != "video" and policy.head is None:
            raise UserError(f"stage {training.stage!r} needs actions, but no episode has any; use --stage video")
        self.policy = policy
        self.training_config = training
        learns_video, learns_head = training.stage != "action", training.stage != "video"
        policy.latents.requires_grad_(False)
        if not learns_video:
            # Never switched on: a pretrained text encoder stays as it is in every stage.
            policy.text.requires_grad_(False)
        policy.backbone.requires_grad_(learns_video)
        if policy.head is not None:
            policy.head.requires_grad_(learns_head)
        if training.checkpoint_gradients:
            policy.backbone.checkpoint_gradients()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given: the video model and the head, each with its own rate."""
        video = [*self.policy.text.parameters(), *self.policy.backbone.parameters()]
        head = list(self.policy.head.parameters()) if self.policy.head is not None else []
        groups = ((video, self.training_config.rate), (head, self.training_config.head_rate))
        return [
            {"params": _learning(parameters), "lr": rate, "peak": rate}
            for parameters, rate in groups
            if _learning(parameters)
        ]

    def forward(self, batch: ClipBatch, generator: torch.Generator) -> Losses:
        """The loss of one batch at one noise level a clip; noise comes from the generator."""
        clean = self.clean(batch, generator)
        sigma = self.training_config.noise.sample((len(clean.video),), generator).to(self.policy.device)
        noisy = clean + Joint.randn_like(clean, generator) * sigma
        return self._losses(noisy, clean, sigma, self._drop(self.condition(batch, generator), generator), batch)

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
            read = features.detach() if config.detach_features else features
            actions = policy.denoise_actions(noisy.actions, sigma, policy.read(read, sigma))
        has_actions = torch.from_numpy(batch.has_actions).to(policy.device)
        return denoising_loss(Joint(video, actions), clean, sigma, has_actions)

    def clean(self, batch: ClipBatch, generator: torch.Generator | None) -> Joint:
        """What a batch shows and does: latents of the flat frames, and normalised actions."""
        policy = self.policy
        future = torch.from_numpy(batch.future).to(policy.device)
        latents = policy.latents.sample(future.flatten(0, 2), generator).unflatten(0, future.shape[:3])
        first = policy.latents.sample(torch.from_numpy(batch.current[:, 0]).to(policy.device), generator)
        return Joint(policy.flatten(latents, first), torch.from_numpy(batch.actions).to(policy.device))

    def condition(self, batch: ClipBatch, generator: torch.Generator | None = None) -> Condition:
        """What a batch is denoised given; its images are disturbed if there is a generator."""
        current = torch.from_numpy(batch.current).to(self.policy.device)
        if generator is None:
            return self.policy.condition(current, batch.instructions)
        # Once an image: noise of its own for every frame would average out over the frames.
        shape = (*current.shape[:2], self.policy.latents.channels, *current.shape[3:])
        noise = torch.randn(shape, generator=generator, device=generator.device).to(current)
        return self.policy.condition(current, batch.instructions, self.training_config.conditioning_noise * noise)

    def _drop(self, condition: Condition, generator: torch.Generator) -> Condition:
        config = self.training_config
        clips, frames = condition.latents.shape[:2]
        drawn_frames = frames if config.dropout_by_frame else 1

        def some(share: float) -> Bool[Tensor, "B F"]:
            drawn = torch.rand(clips, drawn_frames, generator=generator, device=generator.device) < share
            return drawn.to(condition.latents.device).expand(-1, frames)

        return condition.drop(latents=some(config.image_dropout), text=some(config.text_dropout))


def total(losses: Losses, stage: str) -> Float[Tensor, ""]:
    """What is minimised: the mean over frames, over action steps, or the sum of both means."""
    if stage == "video":
        return losses.mean_video
    return losses.mean_actions if stage == "action" else losses.mean_video + losses.mean_actions


def _learning(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
