"""The training loop, on whatever devices Accelerate finds."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor

from videopolicy import checkpoint
from videopolicy.clips.dataset import ClipBatch, Clips
from videopolicy.diffusion.loss import Losses
from videopolicy.errors import UserError
from videopolicy.model import VideoPolicy
from videopolicy.training.config import Training
from videopolicy.training.ema import Ema
from videopolicy.training.monitor import Monitor
from videopolicy.training.stages import Objective, total
from videopolicy.training.state import load_state, save_state


def rate_factor(progress: float, step: int, warmup: int) -> float:
    """Share of the peak learning rate: linear warm-up over steps, and a cosine down to zero over the run.

    Args:
        progress: share of the run that is done, 0 to 1.
        step: steps taken.
        warmup: steps of warm-up.
    """
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rising * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Trainer:
    """One run, in a folder of its own.

    Attributes:
        step: steps taken.
        seconds: time spent training, over all resumes.
        objective: the policy and its loss, with the live weights.
        ema: the averaged weights.
    """

    def __init__(
        self,
        policy: VideoPolicy,
        clips: Clips,
        training: Training,
        run: Path,
        data: str,
        licence: str = checkpoint.LICENCE,
    ) -> None:
        """Sets a run up.

        Args:
            policy: what learns, in place.
            clips: what it learns from.
            training: how.
            run: the run's folder.
            data: names the data set in the model card.
            licence: of the weights that it began from, which binds what becomes of them.
        """
        self.training, self.clips, self.run, self.data, self.licence = training, clips, run, data, licence
        self.accelerator = Accelerator()
        self.objective = Objective(policy, training)
        optimizer = torch.optim.AdamW(self.objective.parameter_groups(), weight_decay=training.weight_decay)
        self._wrapped, self._optimizer = self.accelerator.prepare(self.objective, optimizer)
        self.ema = Ema(policy, training.ema)
        rank = self.accelerator.process_index
        self._generator = torch.Generator().manual_seed(training.seed + 1_000_003 * rank)
        self.step, self.seconds = 0, 0.0
        self._stopping = False

    @property
    def progress(self) -> float:
        """Share of the run that is done: by steps, or by time if there is a budget and it is further along."""
        by_time = self.seconds / (60 * self.training.minutes) if self.training.minutes else 0.0
        return max(self.step / self.training.steps, by_time)

    @property
    def rate_now(self) -> float:
        """The learning rate of the last step; the first group's, if there are two."""
        return self._optimizer.param_groups[0]["lr"]

    def resume(self) -> None:
        """Takes up the state of an earlier run in the same folder."""
        facts = load_state(self.run / "state", self.objective.policy, self.ema, self._optimizer, self._generator)
        self.step, self.seconds = facts["step"], facts["seconds"]

    def train(self) -> None:
        """Runs to the end, or until Ctrl-C or SIGTERM; either way a checkpoint is left behind.

        Raises:
            KeyboardInterrupt: it was interrupted, after the checkpoint was written.
            UserError: the loss or its gradient is no longer finite, or the disk is full.
        """
        started = time.monotonic() - self.seconds
        with self._interruptible(), Monitor(self) as monitor:
            while self.progress < 1 and not self._stopping:
                losses = self._learn(self._batch())
                self.step += 1
                self.seconds = time.monotonic() - started
                monitor.after_step(losses)
                if self.step % self.training.save_every == 0:
                    self.save()
            self.save()
        if self._stopping:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Writes the checkpoint (averaged weights) and the state to resume from."""
        if not self.accelerator.is_main_process:
            return
        provenance = checkpoint.Provenance(
            stage=self.training.stage,
            steps=self.step,
            tasks=self.clips.tasks,
            instructions=self.clips.instructions,
            episodes=len(self.clips.episodes),
            notes={"data": self.data, "minutes of training": round(self.seconds / 60, 1), "seed": self.training.seed},
            license=self.licence,
        )
        policy = self.objective.policy
        with self.ema.applied():
            checkpoint.save(policy, provenance, self.run / "checkpoint")
        facts = {"step": self.step, "seconds": self.seconds}
        save_state(self.run / "state", policy, self.ema, self._optimizer, self._generator, facts)

    def batch_indices(self, step: int) -> Int64[np.ndarray, "b"]:
        """The clips of this process's share of a step; over an epoch every clip is seen once."""
        accelerator = self.accelerator
        positions = np.arange(step * self.training.batch, (step + 1) * self.training.batch)
        return self.clips.at(positions[accelerator.process_index :: accelerator.num_processes], self.training.seed)

    def _batch(self) -> ClipBatch:
        rng = np.random.default_rng([self.training.seed, self.step, self.accelerator.process_index])
        return self.clips.batch(self.batch_indices(self.step), rng)

    def _learn(self, batch: ClipBatch) -> Losses:
        factor = rate_factor(self.progress, self.step, self.training.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        losses = self._wrapped(batch, self._generator)
        loss = total(losses, self.training.stage)
        self.accelerator.backward(loss)
        norm = cast(Tensor, self.accelerator.clip_grad_norm_(self._wrapped.parameters(), self.training.clip))
        # A loss can be finite and its gradient not: one step of it would spoil weights that the next step saves.
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise UserError(
                f"the loss is {loss.item()} and its gradient {norm.item()} at step {self.step}; lower the learning "
                f"rate. {self.run / 'checkpoint'} holds the last good weights, if any were saved"
            )
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.ema.update(self.step)
        return losses

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Turns the first Ctrl-C or SIGTERM into a stop at the end of the step, so that nothing is half done."""

        def stop(number: int, _frame: object) -> None:
            self._stopping = True
            signal.signal(number, signal.default_int_handler)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
