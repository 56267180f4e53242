"""One step of the optimiser, on whatever devices and processes Accelerate finds."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from videopolicy.clips.dataset import ClipBatch
from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.loss import Counts, Losses
from videopolicy.errors import UserError
from videopolicy.models.base import Model
from videopolicy.processes import check_memory
from videopolicy.processors import threads
from videopolicy.training.config import Training
from videopolicy.training.distributed import ProcessGroup, full_tensor, local_part, peer_failures
from videopolicy.training.noise import StepNoise
from videopolicy.training.objective import Counted, Objective, total
from videopolicy.training.performance.compile import compile_blocks
from videopolicy.training.performance.main_memory import keep_freed_memory
from videopolicy.training.performance.onednn_workaround import never_two_frames

# Clean latents, their noise, both together and what is denoised: a step holds these of every clip, and much more.
COPIES = 4
SHARDING = "FSDP2 (configs/accelerate/fsdp2.yaml)"


def check_batch(model: Model, training: Training) -> None:
    """Refuses a batch that no memory holds, before anything long begins.

    Raises:
        UserError: says how much it needs at least.
    """
    clip = model.blank(1).video.nbytes
    check_memory(f"--batch-size {training.batch_size}", COPIES * clip * training.batch_size)


class TrainStep:
    """An objective that is spread over the processes, and its optimiser.

    Attributes:
        optimizer: its groups have a "peak", the highest learning rate of each.
        wrapped: the objective as it is called in training.
    """

    def __init__(self, objective: Objective, training: Training, accelerator: Accelerator, group: ProcessGroup) -> None:
        """Moves the objective to this process's device, or its share of it.

        Raises:
            UserError: the batch has fewer clips than there are processes, times parts of each one's share; or the
                weights do not fit on the device.
        """
        self.training, self.accelerator, self.group = training, accelerator, group
        self._parts, self._side_by_side = training.accumulate, 1
        shares = group.size * training.accumulate
        if training.batch_size < shares:
            raise UserError(
                f"a batch of {training.batch_size} clips cannot be divided among {group.size} processes in "
                f"{training.accumulate} parts each; it needs at least {shares} clips"
            )
        check_batch(objective.model, training)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
            if training.precision == "bf16":
                never_two_frames(objective.model)
            if shares == 1:
                self._parts = self._side_by_side = min(2, threads(), training.batch_size)
            if self._side_by_side > 1:
                # Together the parts have as many threads as there may be; more would wait for each other.
                torch.set_num_threads(threads() // self._side_by_side)
        self._pool = ThreadPoolExecutor(self._side_by_side, "gradient")
        # A process's parts of the batch lie between these; they differ by one clip if it does not divide evenly.
        self._edges = np.linspace(0, training.batch_size, group.size * self._parts + 1).astype(int).tolist()
        if training.compile:
            compile_blocks(objective.model.backbone)
        optimizer = torch.optim.AdamW(
            objective.parameter_groups(),
            weight_decay=training.weight_decay,
            fused=True if accelerator.device.type in ("cpu", "cuda") else None,
        )
        with self.weights_fit():
            self.wrapped, self.optimizer = accelerator.prepare(objective, optimizer)

    def gradient(self, batch: ClipBatch, noise: StepNoise) -> tuple[Losses, Float[Tensor, ""]]:
        """Computes the gradient of a whole batch, of which each process takes its share, and clips its norm.

        Args:
            batch: the clips of all processes.
            noise: theirs.

        Returns:
            The losses of all clips, and the gradient norm before it was clipped; the same in every process.

        Raises:
            UserError: the device's memory does not suffice, or another process has ended.
        """
        first, parts = self.group.rank * self._parts, self._parts
        of = Counted(int(noise.frames.sum()), int(noise.counts.actions.sum()))

        def compute(part: int) -> Losses:
            return self._part(batch, noise, of, part, last=part + 1 == first + parts)

        with peer_failures(), self.clips_fit():
            each = self._pool.map if self._side_by_side > 1 else map
            found = list(each(compute, range(first, first + parts)))
            norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.training.max_grad_norm)
            if self.training.stage.trains_video and self.group.size > 1 and not noise.counts.video.any():
                self._leave_alone()
            return self._everyones(found), full_tensor(cast(Tensor, norm))

    def _leave_alone(self) -> None:
        """Has the optimiser pass over weights whose gradient is nothing, as one process does that runs no video.

        Several run it for nothing, as they wait for one another at every weight; momentum would move what they learn.
        """
        given = [parameter for parameter in self.wrapped.parameters() if parameter.grad is not None]
        # Read together: the device is waited for once.
        moves = torch.stack([local_part(cast(Tensor, parameter.grad)).any() for parameter in given]).tolist()
        for parameter, moved in zip(given, moves, strict=True):
            if not moved:
                parameter.grad = None

    def _part(self, batch: ClipBatch, noise: StepNoise, of: Counted, part: int, last: bool) -> Losses:
        start, stop = self._edges[part : part + 2]
        # Gradients are exchanged once, with the last part's.
        with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
            losses = self.wrapped(_rows(batch, start, stop), noise.rows(start, stop))
            # Times the number of processes, since their gradients are averaged.
            loss = total(losses, of, self.training.pool_losses) * self.group.size
            self.accelerator.backward(loss)
        return losses

    def overflowed(self, norm: float) -> bool:
        """Whether a gradient is not finite because of fp16; the scaler then skips the step and scales less."""
        scaler = self.accelerator.scaler
        return scaler is not None and not math.isfinite(norm) and scaler.get_scale() > 1

    def update(self, factor: float) -> None:
        """Moves the weights along the gradient, at this share of the peak learning rates.

        Raises:
            UserError: the device's memory does not hold the optimiser's moments.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        # The first one makes the moments.
        with self.weights_fit():
            self.optimizer.step()
        self.optimizer.zero_grad()

    def clips_fit(self) -> AbstractContextManager[None]:
        """Within, the device's memory is filled by clips.

        Raises:
            UserError: it does not suffice; what takes less of it.
        """
        return _memory(self._too_large)

    def weights_fit(self) -> AbstractContextManager[None]:
        """Within, the device's memory is filled by what stays there from step to step.

        Raises:
            UserError: it does not suffice; what takes less of it.
        """
        return _memory(self._too_heavy)

    def _everyones(self, found: list[Losses]) -> Losses:
        """The losses of the whole batch, in its order."""
        frames, steps = found[0].video.shape[1], found[0].actions.shape[1]
        rows = torch.cat([torch.cat([column.float() for column in _columns(part)], 1) for part in found])
        if self.group.size > 1:
            bounds = self._edges[:: self._parts]
            sizes = [stop - start for start, stop in pairwise(bounds)]
            rows = self.group.concatenate(rows.cpu(), sizes)
        video, actions, seen, done, levels = rows.split((frames, steps, frames, steps, 2), 1)
        return Losses(video, actions, Counts(seen > 0, done > 0), Levels(levels[:, 0], levels[:, 1]))

    def _too_large(self) -> UserError:
        training, share = self.training, -(-self.training.batch_size // self.group.size)
        ways = [f"--accumulate {2 * training.accumulate}"] if share >= 2 * training.accumulate else []
        ways += [] if training.gradient_checkpointing else ["--gradient-checkpointing"]
        ways += ["--precision bf16"] if training.precision == "no" else []
        clips = -(-share // training.accumulate)
        advice = f"try {', or '.join(ways)}" if ways else f"use more processes with {SHARDING}"
        return UserError(f"the device's memory does not hold a step of {clips} clips; {advice}")

    def _too_heavy(self) -> UserError:
        lora = self.training.lora or not self.training.stage.trains_video
        return UserError(
            "the device's memory does not hold the weights, their average and the optimiser's moments; use more "
            f"processes with {SHARDING}{'' if lora else ', or --lora 16 with --init'}"
        )


@contextmanager
def _memory(refusal: Callable[[], UserError]) -> Iterator[None]:
    """Raises a refusal in place of the device's own error when its memory does not suffice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise refusal() from error


def _rows(batch: ClipBatch, start: int, stop: int) -> ClipBatch:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    taken: dict[str, Any] = {name: None if value is None else value[start:stop] for name, value in values.items()}
    return ClipBatch(**taken)


def _columns(losses: Losses) -> tuple[Tensor, ...]:
    """All that is known of each clip's loss, as columns that travel between processes."""
    levels = torch.stack((losses.levels.video, losses.levels.actions), 1)
    columns = (losses.video, losses.actions, losses.counts.video, losses.counts.actions, levels)
    return tuple(column.detach() for column in columns)
