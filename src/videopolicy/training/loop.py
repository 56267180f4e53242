"""The training loop, on whatever devices Accelerate finds."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from videopolicy import checkpoint
from videopolicy.clips.dataset import Clips
from videopolicy.diffusion.loss import Losses
from videopolicy.models.base import Model
from videopolicy.processes import stops_noted
from videopolicy.training import lora
from videopolicy.training.config import Training
from videopolicy.training.data_summary import only_held_out
from videopolicy.training.distributed import ProcessGroup, engine, gather_full, unsharded
from videopolicy.training.ema import Ema
from videopolicy.training.monitoring import trackers
from videopolicy.training.monitoring.divergence import DivergenceGuard, describe, stopped
from videopolicy.training.monitoring.loss_stats import LossStats
from videopolicy.training.monitoring.monitor import Monitor, StepReport
from videopolicy.training.monitoring.validation import Samples, Validator
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective, total
from videopolicy.training.prefetch import Prefetcher, Prepared
from videopolicy.training.state import STATE, RunState, load_state, newest, save_state
from videopolicy.training.step import TrainStep


def lr_factor(progress: float, step: int, warmup: int, decay: bool = True) -> float:
    """Share of the peak learning rate: linear warm-up over steps, and a cosine down to zero over the run.

    Args:
        progress: share of the run that is done, 0 to 1.
        step: steps taken.
        warmup: steps of warm-up.
        decay: whether it falls after that.
    """
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rising * (0.5 * (1 + math.cos(math.pi * min(progress, 1.0))) if decay else 1.0)


def share_done(training: Training, step: int, seconds: float) -> float:
    """Share of a run that is done: by steps, or by time if there is a budget and it is further along."""
    by_time = seconds / (60 * training.minutes) if training.minutes else 0.0
    return max(step / training.steps, by_time)


@dataclass(frozen=True)
class Origin:
    """Where a run's data and first weights come from, for the model card.

    Attributes:
        data: names of the data sets.
        license: of the weights that it began from, which binds what becomes of them.
    """

    data: str
    license: str = checkpoint.LICENCE


class Trainer:
    """One run, in a folder of its own.

    Attributes:
        step: steps taken.
        seconds: time spent training, over all resumes.
        objective: the model and its loss, with the live weights.
        train_step: takes the steps.
        ema: the averaged weights.
        stats: the losses since the last line of the log.
    """

    def __init__(
        self,
        model: Model,
        clips: Clips,
        training: Training,
        run: Path,
        origin: Origin,
        validation: Clips | None = None,
        track: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        begins: Model | None = None,
    ) -> None:
        """Sets a run up.

        Args:
            model: what learns, in place.
            clips: what it learns from.
            training: how.
            run: the run's folder.
            origin: for the model card.
            validation: clips of other episodes, to measure on; None for none.
            track: trackers beside TensorBoard: names from `videopolicy.training.monitoring.trackers`.
            clock: seconds, for the budget of time.
            begins: the model whose weights it began from, which the objective may learn from.

        Raises:
            UserError: no such tracker, or its package is not installed; or the weights do not fit on the device.
        """
        self.training = training = training.resolve(model.config.sampling.sigma_max)
        self.clips, self.run, self.origin, self.validation = clips, run, origin, validation
        trackers.check(track)
        self.accelerator, self.group = engine(training.precision, track), ProcessGroup()
        self.objective = Objective(model, training, begins)
        self.train_step = TrainStep(self.objective, training, self.accelerator, self.group)
        with self.train_step.weights_fit():
            self.ema = Ema(model, training.ema_decay)
        self.step, self.seconds = 0, 0.0
        self._clock = clock
        self._saved: int | None = None
        self.stats, self._guard = LossStats(training.stage.losses, training.noise), DivergenceGuard()
        self._asked = self._stopping = False

    @property
    def progress(self) -> float:
        """Share of the run that is done; see `share_done`."""
        return share_done(self.training, self.step, self.seconds)

    def resume(self, state: Path | None = None) -> None:
        """Takes up an earlier run in the same folder; the number of processes may be another.

        Args:
            state: where from; None for the newest that is whole.

        Raises:
            UserError: there is none, or it is of another model.
        """
        facts = load_state(state or newest(self.run / STATE, self.group), self._state)
        self.step, self.seconds = facts["step"], facts["seconds"]
        if self.accelerator.scaler and facts["scaler"]:
            self.accelerator.scaler.load_state_dict(facts["scaler"])

    def train(self) -> None:
        """Runs to the end, or until a signal to stop in any process; either way a checkpoint is left behind.

        Raises:
            KeyboardInterrupt: it was interrupted, after the checkpoint was written.
            UserError: the loss or its gradient is no longer finite, or it explodes; the disk is full, the device's
                memory too small, or another process has ended.
        """
        started = self._clock() - self.seconds
        begun = self.step, self.progress
        # Interruptible before the logs show that it has begun.
        with (
            stops_noted(self._stop),
            self._monitor().begin(*begun) as monitor,
            Prefetcher(self._prepared, self.training.steps) as prefetcher,
        ):
            while self.progress < 1 and not self._stopping:
                with monitor.waiting():
                    prepared = prefetcher.take(self.step)
                losses, norm = self._learn(prepared)
                self.step += 1
                self._agree(started)
                lr = self.train_step.optimizer.param_groups[0]["lr"]
                monitor.after_step(StepReport(self.step, self.progress, losses, norm, lr, self.seconds), self)
                if self.step % self.training.save_every == 0:
                    self.save()
            self.save()
        if self._stopping:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Writes the state to resume from, and the checkpoint (averaged weights); every process must take part."""
        if self._saved == self.step:
            return
        model, normalizer, states = self.objective.model, self.clips.normalizer, self.clips.state_normalizer
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "position": self.step * self.training.batch_size,
            "processes": self.group.size,
            "normalizer": normalizer.to_json() if normalizer else None,
            "state_normalizer": states.to_json() if states else None,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }
        save_state(self.run / STATE, self._state, facts, self.group)
        weights = gather_full({**model.state_dict(), **self.ema.weights}, self.group)
        if self.group.main:
            weights = lora.merged(weights) if self.training.lora else weights
            checkpoint.save(model, self._provenance(), self.run / "checkpoint", weights=weights)
        self._saved = self.step

    def validate(self, validator: Validator, count: int | None) -> tuple[dict[str, float], Samples]:
        """See `videopolicy.training.monitoring.monitor.Evaluator`: with the averaged weights.

        Raises:
            UserError: the device's memory does not suffice.
        """
        self.objective.eval()
        with self.train_step.clips_fit(), self.averaged(), self.accelerator.autocast():
            found = validator.measure() if count is None else ({}, validator.draw(count))
        self.objective.train()
        return found

    def batch_indices(self, step: int) -> Int64[np.ndarray, "b"]:
        """The clips of a step, in all processes together; over an epoch every clip is seen once."""
        size = self.training.batch_size
        return self.clips.at(np.arange(step * size, (step + 1) * size), self.training.seed)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model and its parts compute with the averaged weights; in all processes alike."""
        with self.ema.applied(), unsharded(self.train_step.wrapped):
            yield

    def _monitor(self) -> Monitor:
        training, clips = self.training, self.validation or self.clips
        share = max(1, training.batch_size // (self.group.size * training.accumulate))
        validator = Validator(self.objective, clips, share, training.seed)
        measures = self.validation is not None
        return Monitor(self.run, training, self.stats, validator, measures, self.accelerator, self.group)

    @property
    def _state(self) -> RunState:
        others = {"loss_stats": self.stats, "divergence": self._guard}
        return RunState(self.objective.model, self.ema.weights, self.train_step.optimizer, others)

    def _provenance(self) -> checkpoint.Provenance:
        episodes, acts = self.clips.episodes, self.training.stage.action_loss
        apart = len(self.validation.episodes) if self.validation else 0
        lost = only_held_out(self.clips, self.validation)
        return checkpoint.Provenance(
            stage=self.training.stage.name,
            steps=self.step,
            tasks=self.clips.tasks,
            instructions=self.clips.instructions,
            episodes=len(episodes),
            video_only=tuple(sorted(set(self.clips.instructions) - set(self.clips.with_actions if acts else ()))),
            without_actions=len(episodes) - acts * int(episodes.has_actions.sum()),
            noise=self.training.noise,
            video_by_actions=self.training.stage.trains_video and not self.training.stage.video_loss,
            notes={
                "data": self.origin.data,
                "clips with actions": f"{self.clips.share_with_actions:.0%}",
                "minutes of training": round(self.seconds / 60, 1),
                "seed": self.training.seed,
                "episodes held out": f"{apart}" + (f", and with them all of {'; '.join(lost)}" if lost else ""),
                **({"LoRA rank": self.training.lora} if self.training.lora else {}),
            },
            license=self.origin.license,
        )

    def _prepared(self, step: int) -> Prepared:
        """What a step needs; it does not depend on what was learnt."""
        training = self.training
        batch = self.clips.batch(self.batch_indices(step), np.random.default_rng([training.seed, step, 0]))
        noise = draw_noise(self.objective.model, training, batch, generator_of(training.seed, step))
        prepared, device = Prepared(batch, noise), self.accelerator.device
        return prepared.pinned(device) if device.type == "cuda" else prepared

    def _learn(self, prepared: Prepared) -> tuple[Losses, Tensor]:
        training = self.training
        losses, norm = self.train_step.gradient(prepared.batch, prepared.noise)
        loss, length = total(losses, pool_losses=training.pool_losses).item(), norm.item()
        # Before the weights change: one step of such a gradient would spoil what the next save keeps.
        if not self.train_step.overflowed(length) and (problem := self._guard.problem(loss, length)):
            indices = self.batch_indices(self.step)
            facts = describe(training.seed, self.step, problem, losses, length, indices)
            raise stopped(self.run, prepared.batch, facts, self.group.main)
        self.train_step.update(lr_factor(self.progress, self.step, training.warmup, training.decay))
        self.ema.update(self.step)
        return losses, norm

    def _agree(self, started: float) -> None:
        """Makes one clock and one decision to stop of all processes'."""
        mine = torch.tensor([self._clock() - started, float(self._asked)], dtype=torch.float64)
        everyone = torch.stack(self.group.gather(mine))
        self.seconds, self._stopping = everyone[0, 0].item(), bool(everyone[:, 1].any())

    def _stop(self) -> None:
        """Asks for an end after the current step, so that nothing is half done."""
        self._asked = True
