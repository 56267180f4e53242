"""The training loop, on whatever devices Accelerate finds."""

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from videopolicy import checkpoint
from videopolicy.clips.dataset import Clips
from videopolicy.diffusion.loss import Losses
from videopolicy.models.video_action import VideoActionModel
from videopolicy.training import lora
from videopolicy.training.choices import PARTS
from videopolicy.training.config import Training
from videopolicy.training.data_summary import only_held_out
from videopolicy.training.distributed import ProcessGroup, engine, gather_full, unsharded
from videopolicy.training.ema import Ema
from videopolicy.training.monitoring import trackers
from videopolicy.training.monitoring.divergence import DivergenceGuard, stopped
from videopolicy.training.monitoring.loss_stats import LossStats
from videopolicy.training.monitoring.monitor import Monitor
from videopolicy.training.noise import draw
from videopolicy.training.objective import Objective, total
from videopolicy.training.prefetch import Prefetcher, Prepared
from videopolicy.training.state import STATE, Learning, load_state, newest, save_state
from videopolicy.training.step import TrainStep


def rate_factor(progress: float, step: int, warmup: int, decay: bool = True) -> float:
    """Share of the peak learning rate: linear warm-up over steps, and a cosine down to zero over the run.

    Args:
        progress: share of the run that is done, 0 to 1.
        step: steps taken.
        warmup: steps of warm-up.
        decay: whether it falls after that.
    """
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rising * (0.5 * (1 + math.cos(math.pi * min(progress, 1.0))) if decay else 1.0)


class Trainer:
    """One run, in a folder of its own.

    Attributes:
        step: steps taken.
        seconds: time spent training, over all resumes.
        objective: the policy and its loss, with the live weights.
        learner: takes the steps.
        ema: the averaged weights.
        meter: the losses since the last line of the log.
    """

    def __init__(
        self,
        policy: VideoActionModel,
        clips: Clips,
        training: Training,
        run: Path,
        data: str,
        licence: str = checkpoint.LICENCE,
        held_out: Clips | None = None,
        track: Sequence[str] = (),
    ) -> None:
        """Sets a run up.

        Args:
            policy: what learns, in place.
            clips: what it learns from.
            training: how.
            run: the run's folder.
            data: names the data set in the model card.
            licence: of the weights that it began from, which binds what becomes of them.
            held_out: clips of other episodes, to measure on; None for none.
            track: trackers beside TensorBoard: names from `videopolicy.training.monitoring.trackers`.

        Raises:
            UserError: no such tracker, or its package is not installed; or the weights do not fit on the device.
        """
        self.training, self.clips, self.run, self.data, self.licence = training, clips, run, data, licence
        self.held_out = held_out
        trackers.check(track)
        self.accelerator, self.group = engine(training.precision, track), ProcessGroup()
        self.objective = Objective(policy, training)
        self.learner = TrainStep(self.objective, training, self.accelerator, self.group)
        with self.learner.weights_fit():
            self.ema = Ema(policy, training.ema)
        # The same in every process: each draws for the whole batch, and uses what belongs to its own clips.
        self._generator = torch.Generator().manual_seed(training.seed)
        self.step, self.seconds = 0, 0.0
        self._saved: int | None = None
        self.meter, self._guard = LossStats(PARTS[training.stage], training.noise), DivergenceGuard()
        self._asked = self._stopping = False

    @property
    def progress(self) -> float:
        """Share of the run that is done: by steps, or by time if there is a budget and it is further along."""
        by_time = self.seconds / (60 * self.training.minutes) if self.training.minutes else 0.0
        return max(self.step / self.training.steps, by_time)

    @property
    def rate_now(self) -> float:
        """The learning rate of the last step; the first group's, if there are two."""
        return self.learner.optimizer.param_groups[0]["lr"]

    def resume(self, state: Path | None = None) -> None:
        """Takes up an earlier run in the same folder; the number of processes may be another.

        Args:
            state: where from; None for the newest that is whole.

        Raises:
            UserError: there is none, or it is of another model.
        """
        facts = load_state(state or newest(self.run / STATE, self.group), self._learning)
        self.step, self.seconds = facts["step"], facts["seconds"]
        if self.accelerator.scaler and facts["scaler"]:
            self.accelerator.scaler.load_state_dict(facts["scaler"])

    def train(self) -> None:
        """Runs to the end, or until Ctrl-C or SIGTERM in any process; either way a checkpoint is left behind.

        Raises:
            KeyboardInterrupt: it was interrupted, after the checkpoint was written.
            UserError: the loss or its gradient is no longer finite, or it explodes; the disk is full, the device's
                memory too small, or another process has ended.
        """
        started = time.monotonic() - self.seconds
        with self._interruptible(), Monitor(self) as monitor, Prefetcher(self._prepared, self.training.steps) as ahead:
            while self.progress < 1 and not self._stopping:
                with monitor.waiting():
                    prepared = ahead.take(self.step, self._generator.get_state())
                losses, norm = self._learn(prepared)
                self.step += 1
                self._agree(started)
                monitor.after_step(losses, norm)
                if self.step % self.training.save_every == 0:
                    self.save()
            self.save()
        if self._stopping:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Writes the state to resume from, and the checkpoint (averaged weights); every process must take part."""
        if self._saved == self.step:
            return
        policy, normalizer = self.objective.policy, self.clips.normalizer
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "position": self.step * self.training.batch,
            "processes": self.group.size,
            "normalizer": normalizer.to_json() if normalizer else None,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }
        save_state(self.run / STATE, self._learning, facts, self.group)
        weights = gather_full({**policy.state_dict(), **self.ema.weights}, self.group)
        if self.group.main:
            weights = lora.merged(weights) if self.training.lora else weights
            checkpoint.save(policy, self._provenance(), self.run / "checkpoint", weights=weights)
        self._saved = self.step

    def batch_indices(self, step: int) -> Int64[np.ndarray, "b"]:
        """The clips of a step, in all processes together; over an epoch every clip is seen once."""
        return self.clips.at(
            np.arange(step * self.training.batch, (step + 1) * self.training.batch), self.training.seed
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the policy and its parts compute with the averaged weights; in all processes alike."""
        with self.ema.applied(), unsharded(self.learner.wrapped):
            yield

    @property
    def _learning(self) -> Learning:
        return Learning(
            self.objective.policy, self.ema, self.learner.optimizer, self._generator, self.meter, self._guard
        )

    def _provenance(self) -> checkpoint.Provenance:
        episodes, acts = self.clips.episodes, self.training.stage != "video"
        apart = len(self.held_out.episodes) if self.held_out else 0
        lost = only_held_out(self.clips, self.held_out)
        return checkpoint.Provenance(
            stage=self.training.stage,
            steps=self.step,
            tasks=self.clips.tasks,
            instructions=self.clips.instructions,
            episodes=len(episodes),
            video_only=tuple(sorted(set(self.clips.instructions) - set(self.clips.with_actions if acts else ()))),
            without_actions=len(episodes) - acts * int(episodes.has_actions.sum()),
            notes={
                "data": self.data,
                "clips with actions": f"{self.clips.share_with_actions:.0%}",
                "minutes of training": round(self.seconds / 60, 1),
                "seed": self.training.seed,
                "episodes held out": f"{apart}" + (f", and with them all of {'; '.join(lost)}" if lost else ""),
                **({"LoRA rank": self.training.lora} if self.training.lora else {}),
            },
            license=self.licence,
        )

    def _prepared(self, step: int, noise: Tensor) -> Prepared:
        """What a step needs, from this state of the generator on; does not depend on what was learnt."""
        training, generator = self.training, torch.Generator()
        generator.set_state(noise)
        batch = self.clips.batch(self.batch_indices(step), np.random.default_rng([training.seed, step, 0]))
        draws = draw(self.objective.policy, training, training.batch, batch.actions.shape[2], generator)
        prepared = Prepared(batch, draws, noise, generator.get_state())
        device = self.accelerator.device
        return prepared.pinned(device) if device.type == "cuda" else prepared

    def _learn(self, prepared: Prepared) -> tuple[Losses, Tensor]:
        training, batch = self.training, prepared.batch
        losses, norm = self.learner.gradient(batch, prepared.draws)
        loss, length = total(losses, training.stage, pooled=training.pooled).item(), norm.item()
        # Before the weights change: one step of such a gradient would spoil what the next save keeps.
        if not self.learner.overflowed(length) and (problem := self._guard.problem(loss, length)):
            raise stopped(self, problem, batch, prepared.before, losses, length)
        self.learner.update(rate_factor(self.progress, self.step, training.warmup, training.decay))
        self.ema.update(self.step)
        self._generator.set_state(prepared.after)
        return losses, norm

    def _agree(self, started: float) -> None:
        """Makes one clock and one decision to stop of all processes'."""
        mine = torch.tensor([time.monotonic() - started, float(self._asked)], dtype=torch.float64)
        everyone = torch.stack(self.group.gather(mine))
        self.seconds, self._stopping = everyone[0, 0].item(), bool(everyone[:, 1].any())

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Turns the first Ctrl-C or SIGTERM into a stop at the end of the step, so that nothing is half done."""

        def stop(number: int, _frame: object) -> None:
            self._asked = True
            signal.signal(number, signal.default_int_handler)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
