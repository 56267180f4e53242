"""Everything that is random in a training step, drawn for the whole batch and then dealt out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from videopolicy.diffusion.joint import Joint
from videopolicy.models.video_action import VideoActionModel
from videopolicy.training.config import Training


@dataclass(frozen=True, eq=False)
class StepNoise:
    """The draws of B clips, on the CPU.

    Attributes:
        sigma: noise level of each clip.
        noise: standard normal, added to the clean sample times sigma.
        disturbance: standard normal, added to the latents of the current images; once an image, since noise of its
            own for every frame would average out over the frames.
        no_image: frames that are not shown the current image.
        no_text: frames that are not shown the instruction.
        seeds: of what the latents draw from their codes, a clip.
    """

    sigma: Float[Tensor, "B"]
    noise: Joint
    disturbance: Float[Tensor, "B V C h w"]
    no_image: Bool[Tensor, "B F"]
    no_text: Bool[Tensor, "B F"]
    seeds: Int64[Tensor, "B"]

    def map(self, change: Callable[[Tensor], Tensor]) -> "StepNoise":
        """The same change of every tensor."""
        return StepNoise(
            change(self.sigma),
            self.noise.map(change),
            change(self.disturbance),
            change(self.no_image),
            change(self.no_text),
            change(self.seeds),
        )

    def rows(self, start: int, stop: int) -> "StepNoise":
        """Those of some of the clips."""
        return self.map(lambda part: part[start:stop])


def draw(policy: VideoActionModel, training: Training, clips: int, width: int, generator: torch.Generator) -> StepNoise:
    """Draws for so many clips, which depend on the generator alone, and not on who takes which of them.

    Args:
        policy: whose latents are disturbed.
        training: the recipe.
        clips: B.
        width: D, of the clips' actions.
        generator: on the CPU.
    """
    config = policy.config
    side = config.size // policy.latents.downsampling
    picture = (policy.latents.channels, side, side)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def some(share: float) -> Bool[Tensor, "B F"]:
        frames = config.flat_frames if training.dropout_by_frame else 1
        return (torch.rand(clips, frames, generator=generator) < share).expand(-1, config.flat_frames)

    # From a copy: latents that draw nothing leave the sequence as it is.
    seeds = torch.Generator()
    seeds.set_state(generator.get_state())
    return StepNoise(
        sigma=training.noise.sample((clips,), generator),
        noise=Joint(normal(clips, config.flat_frames, *picture), normal(clips, config.window.actions, width)),
        disturbance=normal(clips, len(config.views), *picture),
        no_image=some(training.image_dropout),
        no_text=some(training.text_dropout),
        seeds=torch.randint(2**62, (clips,), generator=seeds),
    )
