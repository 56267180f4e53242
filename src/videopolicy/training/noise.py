"""Everything that is random in a training step, drawn for the whole batch and then dealt out to processes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from videopolicy.clips.dataset import ClipBatch
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.loss import Counts
from videopolicy.models.base import Model
from videopolicy.training.config import Training
from videopolicy.training.stages import Stage


@dataclass(frozen=True, eq=False)
class StepNoise:
    """What is drawn for B clips, on the CPU.

    Attributes:
        levels: noise levels of each clip.
        noise: standard normal, added to the clean sample times its levels.
        conditioning: standard normal, added to the latents of the current images; once an image, since noise of its
            own for every frame would average out over the frames.
        no_image: what is not shown the current image: whole clips (G = 1) or flat frames (G = F).
        no_text: what is not shown the instruction, likewise.
        seeds: of what the latents draw from their codes, a clip.
        counts: what counts in the loss.
        no_state: clips that are not shown the robot's state.
        shift: latent pixels by which the images of each view are shifted, down and to the right.
        frames: flat frames of each clip that would count if no video were spared: what the loss is divided by, so that
            clips without actions do not count for more where the others' video is spared.
    """

    levels: Levels
    noise: Joint
    conditioning: Float[Tensor, "B V Q h w"]
    no_image: Bool[Tensor, "B G"]
    no_text: Bool[Tensor, "B G"]
    seeds: Int64[Tensor, "B"]
    counts: Counts
    no_state: Bool[Tensor, "B"]
    shift: Int64[Tensor, "B V 2"]
    frames: Int64[Tensor, "B"]

    def map(self, change: Callable[[Tensor], Tensor]) -> "StepNoise":
        """The same change of every tensor."""
        return StepNoise(
            self.levels.map(change),
            self.noise.map(change),
            change(self.conditioning),
            change(self.no_image),
            change(self.no_text),
            change(self.seeds),
            Counts(change(self.counts.video), change(self.counts.actions)),
            change(self.no_state),
            change(self.shift),
            change(self.frames),
        )

    def rows(self, start: int, stop: int) -> "StepNoise":
        """What is drawn for some of the clips."""
        return self.map(lambda part: part[start:stop])


def generator_of(seed: int, step: int) -> torch.Generator:
    """The generator of a step's noise, on the CPU: every step's is its own, whatever came before it."""
    # The batch is drawn from (seed, step, 0).
    state = np.random.SeedSequence([seed, step, 1]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def draw_noise(model: Model, training: Training, batch: ClipBatch, generator: torch.Generator) -> StepNoise:
    """Draws for the clips of a batch, which depends on the generator alone, and not on who takes which of them.

    Args:
        model: whose latents are noised.
        training: the recipe.
        batch: the clips of all processes.
        generator: on the CPU.
    """
    config, (clips, steps, width) = model.config, batch.actions.shape
    side = config.size // model.latents.downsampling
    picture, image = ((channels, side, side) for channels in (model.latents.channels, model.latents.condition_channels))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    farthest = training.random_shift

    def some(share: float) -> Bool[Tensor, "B G"]:
        groups = config.flat_frames if training.dropout_by_frame else 1
        return torch.rand(clips, groups, generator=generator) < share

    levels = training.noise.sample(clips, generator)
    counts = counted(training, batch, config.flat_frames, levels)
    return StepNoise(
        levels=counting(levels, training.stage),
        noise=Joint(normal(clips, config.flat_frames, *picture), normal(clips, steps, width)),
        conditioning=normal(clips, len(config.views), *image),
        no_image=some(training.image_dropout),
        no_text=some(training.text_dropout),
        seeds=torch.randint(2**62, (clips,), generator=generator),
        # Drawn last: what is drawn before them was drawn so before there were these.
        no_state=torch.rand(clips, generator=generator) < training.state_dropout,
        shift=torch.randint(2 * farthest + 1, (clips, len(config.views), 2), generator=generator) - farthest,
        counts=replace(counts, video=counts.video & ~spared(training, batch, generator)[:, None]),
        frames=counts.video.sum(1),
    )


def spared(training: Training, batch: ClipBatch, generator: torch.Generator) -> Bool[Tensor, "B"]:
    """Clips whose video is not learnt although it could be: those with actions, in a share of the steps."""
    if training.video_share == 1 or not training.stage.action_loss:
        return torch.zeros(len(batch.actions), dtype=torch.bool)
    # All or none: a pass of few clips costs hardly less than one of many.
    spares = torch.rand((), generator=generator) >= training.video_share
    return torch.from_numpy(np.asarray(batch.has_actions)) & spares


def counting(levels: Levels, stage: Stage) -> Levels:
    """The levels at which a stage needs passes: for the loss of the video, for what the head reads, or for both."""
    if not stage.action_loss:
        return Levels(levels.video, levels.actions)
    return levels if stage.video_loss else levels.read()


def counted(training: Training, batch: ClipBatch, frames: int, levels: Levels) -> Counts:
    """What counts in the loss of a batch, on the levels' device.

    All frames if the stage has a loss of the video, the actions where there are any; of both, what the noise law has
    count at the levels that it drew.

    Args:
        training: the recipe: its stage and its noise law.
        batch: the clips.
        frames: F, flat frames of a clip.
        levels: of each clip, (B,).
    """
    stage, steps = training.stage, batch.actions.shape[1]
    video, actions = training.noise.counts(levels)
    acting = torch.from_numpy(np.asarray(batch.has_actions)).to(actions.device) & stage.action_loss & actions
    video = video & stage.video_loss
    return Counts(video[:, None].expand(-1, frames), acting[:, None].expand(-1, steps))
